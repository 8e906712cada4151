"""A question as it came -> as it is looked up and asked: condensed with what went before, rewritten into search queries.

    turns + follow-up -> [the model: a question that stands alone]         else the follow-up, looked up together with the one before
    question          -> [the rewriter: search queries]                    else the question

Both are optional calls of the model; where one fails the answer is made all the same, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .call_cache import CallCache
from .completions import Completions
from .conversation import Turn, is_follow_up, with_before
from .document import Tokens
from .errors import ModelError
from .llm import Completion
from .messages import QUESTION_CHARS_MAX, Query
from .prompt import Passage, Prompt
from .rewriter import Rewriter
from .terms import Terms


@dataclass(frozen=True, slots=True)
class Understood:
    """The query to be looked up and asked, and what that has cost."""

    query: Query
    tokens: Tokens = Tokens()
    entries: tuple[tuple[bytes, bytes], ...] = ()
    failure: str | None = None
    """Why a question was not put in other words, where it should have been."""


class _Calls:
    """Of one question."""

    def __init__(self, completions: Completions, model: str | None, cache: CallCache) -> None:
        self._completions = completions
        self._model = model
        self._cache = cache
        self.tokens = Tokens()
        self.entries: list[tuple[bytes, bytes]] = []

    async def ask(self, prompt: Prompt) -> Completion:
        paid = await self._completions.complete(prompt, self._model, self._cache)
        self.tokens += paid.completion.tokens
        self.entries += [] if paid.entry is None else [paid.entry]
        return paid.completion


class Understanding:
    """Of one pipeline. `rewriter`: None: none is set."""

    def __init__(self, completions: Completions, rewriter: Rewriter | None, language: str) -> None:
        self._completions = completions
        self._rewriter = rewriter
        self._terms = Terms(language)

    async def understood(self, query: Query, turns: Sequence[Turn], cache: CallCache) -> Understood:
        """Never raises ModelError: what the model could not do is left out, and told."""
        calls, failures = _Calls(self._completions, query.model, cache), []
        try:
            query = await self._alone(query, turns, calls)
        except ModelError as error:
            failures.append(f"conversation: {error}")
            query = self._with_before(query, turns)
        try:
            query = await self._rewritten(query, calls)
        except ModelError as error:
            failures.append(f"rewriter: {error}")
        return Understood(query, calls.tokens, tuple(calls.entries), "; ".join(failures) or None)

    async def _alone(self, query: Query, turns: Sequence[Turn], calls: _Calls) -> Query:
        if not turns or not is_follow_up(query.question, self._terms):
            return query
        said = (await calls.ask(_condensing(query.question, turns))).text
        if not said:
            return self._with_before(query, turns)
        return replace(query, question=" ".join(said.split())[:QUESTION_CHARS_MAX])

    def _with_before(self, query: Query, turns: Sequence[Turn]) -> Query:
        return replace(query, searched=(with_before(query.question, turns, self._terms),))

    async def _rewritten(self, query: Query, calls: _Calls) -> Query:
        if (
            self._rewriter is None or query.standing
        ):  # standing questions are looked up again and again, without the model
            return query
        first = query.searched or (query.question,)
        return replace(query, searched=(*first, *await self._rewriter.rewrite(query.question, calls.ask)))


def _condensing(question: str, turns: Sequence[Turn]) -> Prompt:
    """The turns are documents of the prompt, so that an instruction in them is data too."""
    said = [f"Question: {turn.question}\nAnswer: {turn.answer or 'not known'}" for turn in turns]
    return Prompt(
        question, tuple(Passage(number, f"turn-{number}", text) for number, text in enumerate(said, 1)), "condense"
    )
