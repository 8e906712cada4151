"""An index in shards in this process: each asked as a worker would be, but over no topics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from millstream.rag.document import Chunk, chunk_ids
from millstream.rag.errors import NotFreshError, RagError
from millstream.rag.parse_job import Part
from millstream.rag.settings import RetrievalSettings, ShardSettings
from millstream.rag.shard_asker import ShardAsker, ShardTopics
from millstream.rag.shard_messages import (
    Parts,
    ShardQuery,
    ShardReply,
    read_request,
    reply_fields,
    write_reply,
    write_request,
)
from millstream.rag.shard_search import ShardSearch
from millstream.rag.sharded_index import ShardedIndex
from millstream.rag.updates import vector_bytes, write_update
from millstream.rag.view_state import ViewPlan, ViewState
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.memory import MemoryBroker
from millstream.topics.partitioner import murmur2

MODEL = "model"
TOPICS = ShardTopics("updates", "shard-queries", "shard-hits")
Record = tuple[bytes | None, bytes | None]


def record(document: str, text: str, vector: np.ndarray, metadata: Mapping[str, object] | None = None) -> Record:
    chunk = Chunk(chunk_ids(document, [text])[0], document, text, dict(metadata or {}))
    return chunk.key.encode(), write_update(chunk, vector_bytes(vector, "f32"), MODEL, "f32")


def view(records: Sequence[Record], dimensions: int, index: str = "exact") -> ViewState:
    state = ViewState(ViewPlan("updates", "id", MODEL, dimensions, Part(index)), MemoryDatabase())
    for offset, one in enumerate(records):  # one by one: numbers are used again
        state.apply(0, offset + 1, [one])
    return state


def split(records: Sequence[Record], shards: int) -> list[list[Record]]:
    """As Kafka's partitioner does."""
    parts: list[list[Record]] = [[] for _ in range(shards)]
    for key, value in records:
        parts[(murmur2(key or b"") & 0x7FFFFFFF) % shards].append((key, value))
    return parts


class Here(ShardAsker):
    """`silent`: shards that never answer. `later`: how often each says so first. `change`: what a request becomes on its way."""

    def __init__(
        self,
        views: Sequence[ViewState],
        retrieval: RetrievalSettings,
        *,
        silent: Sequence[int] = (),
        later: int = 0,
        change: Callable[[int, ShardQuery], ShardQuery] = lambda shard, request: request,
        settings: ShardSettings | None = None,
    ) -> None:
        super().__init__(MemoryBroker(), TOPICS, settings or ShardSettings(), "here")
        self.searches = [ShardSearch(one, retrieval) for one in views]
        self.silent = set(silent)
        self.later = dict.fromkeys(range(len(views)), later)
        self.change = change
        self.asked: list[tuple[int, str]] = []
        self._ready.set()

    async def shards(self) -> int:
        return len(self.searches)

    async def _replied(self, shard: int, request: ShardQuery) -> ShardReply:
        """Through the bytes of both messages."""
        self.asked.append((shard, request.ask))
        if shard in self.silent:
            await asyncio.get_running_loop().create_future()
        if self.later[shard]:
            self.later[shard] -= 1
            return ShardReply(shard, later="it is catching up")
        read = read_request(write_request(self.change(shard, ShardQuery(**{**_fields(request), "id": "1"}))))
        search = self.searches[shard]
        position = search.view.positions.get(0, 0)
        if read.after is not None and read.after >= position:
            return ShardReply(shard, later=str(NotFreshError(f"it is at {position}")))
        try:
            reply = search.reply(shard, position, read)
        except RagError as error:
            reply = ShardReply(shard, wrong=str(error))
        parts, whole = Parts({}), None
        for _, value in write_reply(b"here", read.id, reply):
            _, fields = reply_fields(value)
            whole = parts.add(fields)
        assert whole is not None
        return whole


def _fields(request: ShardQuery) -> dict:
    return {name: getattr(request, name) for name in ShardQuery.__slots__}


def sharded(asker: ShardAsker, retrieval: RetrievalSettings) -> ShardedIndex:
    return ShardedIndex(asker, retrieval, fresh_timeout_ms=10_000)
