"""No model: quotes the sentences that cover most of the question, with the numbers of their documents; else says it has none.

For tests that must be exact and for running everything offline. A sentence counts what `keywords.py` counts, with rarity
taken among the sentences at hand. It does not understand the question: "Who founded it?" finds the sentence with "founded".
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from typing import Final, NamedTuple

from ..document import Tokens
from ..errors import ModelRefusedError
from ..llm import Completion
from ..prompt import Passage, Prompt
from ..terms import Terms

_SENTENCE = re.compile(r"(?<=[.!?…。！？])[\"')\]]*\s+|\n+")
_MARKUP = re.compile(r"^(?:#{1,6}|[-*>|])\s+")


class _Sentence(NamedTuple):
    text: str
    passage: int
    terms: frozenset[str]


class Quote:
    """`coverage_min`: share of the question's weight a sentence must hold to be quoted. `sentences_max`: how many at most."""

    is_free: Final = True
    """Asked again it costs nothing, so other workers need not be told what it said."""

    def __init__(self, coverage_min: float = 0.3, sentences_max: int = 2, language: str = "english") -> None:
        if not 0 < coverage_min <= 1 or sentences_max < 1:
            raise ValueError("coverage_min must be above 0 and at most 1, sentences_max at least 1")
        self._coverage_min = coverage_min
        self._sentences_max = sentences_max
        self._terms = Terms(language)

    def fingerprint(self) -> str:
        return f"quote/1 {self._coverage_min} {self._sentences_max} {self._terms.language}"

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        if model not in {None, "quote"}:
            raise ModelRefusedError(f"there is no model {model!r} here: this pipeline quotes (llm: quote)")
        if prompt.task in {"condense", "rewrite", "contradict"}:
            return Completion(None, model="quote")  # it has no words of its own
        chosen = self._chosen(prompt)
        if not chosen:
            return Completion(None, tokens=_tokens(prompt, ""), model="quote")
        text = " ".join(f"{sentence.text} [{sentence.passage}]" for sentence in chosen)
        numbers = tuple(dict.fromkeys(sentence.passage for sentence in chosen))
        return Completion(text, numbers, _tokens(prompt, text), "quote")

    async def stream(self, prompt: Prompt, model: str | None = None) -> AsyncGenerator[str | Completion]:
        """Word by word."""
        completion = await self.complete(prompt, model)
        for piece in re.findall(r"\s*\S+", completion.text or ""):
            yield piece
        yield completion

    async def close(self) -> None:
        """Nothing to let go of."""

    def _chosen(self, prompt: Prompt) -> list[_Sentence]:
        asked = self._terms.unique(prompt.question)
        sentences = [sentence for passage in prompt.passages for sentence in self._sentences(passage)]
        if not asked or not sentences:
            return []
        weights = _weights(asked, sentences)
        scored = [(_coverage(weights, sentence), -row) for row, sentence in enumerate(sentences)]
        best = max(scored)[0]
        floor = max(self._coverage_min, 0.75 * best)  # the second must be nearly as good as the first
        rows = [-row for score, row in sorted(scored, reverse=True) if score >= floor]
        return _distinct([sentences[row] for row in rows])[: self._sentences_max]

    def _sentences(self, passage: Passage) -> list[_Sentence]:
        texts = (_MARKUP.sub("", " ".join(part.split())) for part in _SENTENCE.split(passage.text))
        return [_Sentence(text, passage.number, frozenset(self._terms.all(text))) for text in texts if text]


def _weights(asked: list[str], sentences: list[_Sentence]) -> Mapping[str, float]:
    df = Counter(term for sentence in sentences for term in sentence.terms)
    total = len(sentences)
    return {term: math.log1p((total - df[term] + 0.5) / (df[term] + 0.5)) for term in asked}


def _coverage(weights: Mapping[str, float], sentence: _Sentence) -> float:
    return sum(weight for term, weight in weights.items() if term in sentence.terms) / sum(weights.values())


def _distinct(sentences: list[_Sentence]) -> list[_Sentence]:
    return list({sentence.text: sentence for sentence in reversed(sentences)}.values())[::-1]


def _tokens(prompt: Prompt, text: str) -> Tokens:
    """Words, since there is no tokenizer: enough for the figures of a demo to mean something."""
    return Tokens(sum(len(passage.text.split()) for passage in prompt.passages), len(text.split()))
