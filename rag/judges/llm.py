"""Asks the pipeline's language model whether two chunks can both be true, and for one sentence that says what cannot.

A reply begins with yes or no. One that begins with neither is no verdict, and an error: a model that chats would else find
nothing for ever, and nobody would know. What it said of the same two texts is not paid for again (`rag/completions.py`).
"""

from __future__ import annotations

import re
from typing import Final

from ..contradiction import Verdict
from ..document import Chunk
from ..errors import ModelError
from ..prompt import Passage, Prompt
from ..rewriter import AskModel

_REPLY: Final = re.compile(r"\W*(yes|no)\b\W*(.*)", re.IGNORECASE | re.DOTALL)
_QUESTION: Final = "Do the two documents contradict each other?"


class Llm:
    """`chunk_chars_max`: of each chunk so much is shown."""

    def __init__(self, chunk_chars_max: int = 2_000) -> None:
        if chunk_chars_max < 1:
            raise ValueError(f"chunk_chars_max must be at least 1, got {chunk_chars_max}")
        self._chars_max = chunk_chars_max

    def fingerprint(self) -> str:
        return f"llm/1 {self._chars_max}"

    async def judge(self, one: Chunk, other: Chunk, ask: AskModel) -> Verdict | None:
        passages = (Passage(1, one.document, self._shown(one)), Passage(2, other.document, self._shown(other)))
        said = (await ask(Prompt(_QUESTION, passages, "contradict"))).text
        if said is None:  # "the documents do not say"
            return None
        found = _REPLY.match(said)
        if found is None:
            raise ModelError(
                f"judge 'llm': expected yes or no, got {said[:100]!r}; name another model, or another judge"
            )
        if found[1].lower() == "no":
            return None
        return Verdict(" ".join(found[2].split()) or "the model gives no reason")

    def _shown(self, chunk: Chunk) -> str:
        return chunk.text[: self._chars_max]
