"""What a step of the index reads by, without a broker: a view that is as far as it was asked to be, and further where it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from millstream.rag.completions import Completions
from millstream.rag.document import Chunk, chunk_ids
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.errors import NotFreshError
from millstream.rag.llm import LLM
from millstream.rag.llms.quote import Quote
from millstream.rag.updates import vector_bytes, write_update
from millstream.rag.view_state import ViewPlan, ViewState
from millstream.state.stores.memory import MemoryDatabase

DIMENSIONS = 32
EMBEDDER = Hashing(DIMENSIONS)
Record = tuple[bytes, bytes | None]


async def update(uri: str, text: str, slot: str | None = None, **options: Any) -> Record:
    """A record of index-updates. `slot`: what the chunk's id is made of, where that is not its text."""
    (vector,) = await EMBEDDER.embed([text], "document")
    chunk = Chunk(chunk_ids(uri, [slot or text])[0], uri, text, **options)
    return chunk.key.encode(), write_update(chunk, vector_bytes(vector, "f32"), EMBEDDER.fingerprint(), "f32")


class FollowingView:
    """Of `log`, which may grow: the records of each partition."""

    def __init__(self, log: Sequence[Sequence[Record]], is_there: bool = True) -> None:
        self._log = log
        self._is_there = is_there
        plan = ViewPlan("updates", "", EMBEDDER.fingerprint(), DIMENSIONS)
        self.state = ViewState(plan, MemoryDatabase())

    async def wait_ready(self, timeout_ms: int) -> None:
        if not self._is_there:
            raise NotFreshError("the index has ended")

    async def wait_passed(self, offsets: Mapping[int, int], timeout_ms: int) -> None:
        for partition, offset in offsets.items():
            self.go(partition, offset + 1)

    def go(self, partition: int, end: int) -> None:
        begin = self.state.positions.get(partition, 0)
        for at in range(begin, min(end, len(self._log[partition]))):
            self.state.apply(partition, at + 1, [self._log[partition][at]])


def parts_of(view: FollowingView, llm: LLM | None = None) -> Any:
    """As far as a step that looks for contradictions uses `AnswerParts`."""
    completions = Completions(llm or Quote())
    asking = SimpleNamespace(completions=completions)
    return SimpleNamespace(view=view, start=lambda: None, asking=asking, close=_nothing_to_close)


async def _nothing_to_close() -> None:
    """A view that follows nothing."""
