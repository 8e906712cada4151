"""Asks the pipeline's language model in which order the chunks answer the question (listwise: Sun et al., "RankGPT", 2023).

What a model says is not trusted to be an order: numbers that do not exist or come again are passed over, chunks it does not name
follow in the order they had, and where it names none, or says that no document fits, the order stays. One call a question, its
tokens are part of the answer's; an order is kept for as long as the same chunks are found for the same question.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence

from ..document import Chunk, Hit, digest
from ..embedder import Embedder
from ..llm import LLM, Completion
from ..prompt import Prompt
from ..reranker import Candidates, Ranked, ordered

_NUMBER = re.compile(r"(?<!\w)\d{1,3}(?!\w)")


class Llm:
    """`chunk_chars_max`: of each chunk so much is shown. `cache_entries_max`: orders kept, the least recently used go first."""

    def __init__(self, chunk_chars_max: int = 1_500, cache_entries_max: int = 10_000) -> None:
        if chunk_chars_max < 1 or cache_entries_max < 0:
            raise ValueError("chunk_chars_max must be at least 1, cache_entries_max not negative")
        self._chars_max = chunk_chars_max
        self._entries_max = cache_entries_max
        self._orders: OrderedDict[str, list[int]] = OrderedDict()
        self._llm: LLM | None = None

    def use(self, embedder: Embedder, llm: LLM) -> None:
        self._llm = llm

    def fingerprint(self) -> str:
        return f"llm/1 {self._chars_max}"

    async def rerank(self, candidates: Candidates) -> Ranked:
        assert self._llm is not None, "use(embedder, llm) comes before the first question"
        hits = candidates.hits
        if len(hits) < 2:
            return Ranked(list(hits))
        key = digest(candidates.question, *(f"{hit.chunk.id} {hit.chunk.version}" for hit in hits))
        if key in self._orders:
            self._orders.move_to_end(key)
            return Ranked(_in_order(hits, self._orders[key]))
        shown = [Hit(_cut(hit.chunk, self._chars_max), hit.score) for hit in hits]
        completion = await self._llm.complete(Prompt.of(candidates.question, shown, task="order"))
        order = order_of(completion, len(hits))
        self._keep(key, order)
        return Ranked(_in_order(hits, order), completion.tokens)

    async def close(self) -> None:
        self._orders.clear()

    def _keep(self, key: str, order: list[int]) -> None:
        self._orders[key] = order
        while len(self._orders) > self._entries_max:
            self._orders.popitem(last=False)


def order_of(completion: Completion, hits: int) -> list[int]:
    """Rows from 0, each once, as the model orders them: cited numbers first, else any number in the text, then what is left."""
    named: Sequence[int] = completion.cited or [int(number) for number in _NUMBER.findall(completion.text or "")]
    known = [number - 1 for number in named if 1 <= number <= hits]
    return list(dict.fromkeys([*known, *range(hits)]))


def _in_order(hits: Sequence[Hit], order: Sequence[int]) -> list[Hit]:
    """Scores from 1 downwards: an order says no more."""
    scores = dict(zip(order, range(len(order)), strict=True))
    return ordered(hits, [1.0 - scores[row] / len(hits) for row in range(len(hits))])


def _cut(chunk: Chunk, chars: int) -> Chunk:
    return Chunk(chunk.id, chunk.document, chunk.text[:chars], version=chunk.version)
