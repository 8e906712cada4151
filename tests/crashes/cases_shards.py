"""Requests to the shards of an index: every one gets one reply, from the shard that is asked, whoever holds it then."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson

from millstream.rag.embedders.hashing import Hashing
from millstream.rag.operators.search import Search
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentPipeline, DocumentSettings
from millstream.rag.shard_messages import ShardQuery, write_reply, write_request
from millstream.rag.shard_search import ShardSearch
from millstream.rag.shard_views import Shards, ShardViews
from millstream.rag.shared import Shared
from millstream.rag.view import IndexView
from millstream.rag.view_state import ViewState
from millstream.workers.app import App
from tests.crashes.case import NAME, Case, Outputs, differences
from tests.crashes.cases_rows import PARTITIONS
from tests.rag.shards import record, split, view

DIMENSIONS = 8
WORDS = ["lamp", "rope", "bell", "map", "clock"]
SETTINGS = DocumentSettings.of(
    NAME, embedder=Part("hashing", {"dimensions": DIMENSIONS}), sharded=True, partitions=PARTITIONS
)


def _views() -> list[ViewState]:
    vectors = asyncio.run(Hashing(DIMENSIONS).embed(WORDS, "document"))
    records = [record(f"doc-{word}", word, vector) for word, vector in zip(WORDS, vectors, strict=True)]
    return [view(part, DIMENSIONS) for part in split(records, PARTITIONS)]


VIEWS = _views()


class _Still:
    """A view that has come as far as it will: what it reads, and when, is tried elsewhere."""

    def __init__(self, state: ViewState) -> None:
        self.state = state

    def positions(self) -> dict[int, int]:
        return {}

    async def wait_ready(self, timeout_ms: int) -> None:
        """It is."""

    async def run(self) -> None:
        """There is nothing to follow."""


def build(app: App) -> None:
    def shards() -> Shards:
        return ShardViews(SETTINGS.answer, lambda embedder, shard: cast(IndexView, _Still(VIEWS[shard])))

    pipeline = DocumentPipeline(SETTINGS)
    step = Search(SETTINGS.answer, Shared(shards), pipeline.bind)
    app.records(pipeline.topic("shard_queries")).then(step).to(pipeline.topic("shard_hits"), key="key")


def _request(shard: int, number: int) -> ShardQuery:
    counts = VIEWS[shard].keywords.counts("a lamp and a bell")
    known = f"{shard}-{number}"
    if number % 3 == 0:
        return ShardQuery("count", known, "a lamp and a bell")
    if number % 3 == 1:
        return ShardQuery("find", known, "a lamp and a bell", pool=3, counts=counts)
    return ShardQuery("fetch", known, keys=tuple(VIEWS[shard].keys(VIEWS[shard].numbers().tolist())))


BROKEN = b"no JSON"
REQUESTS = [[_request(shard, number) for number in range(9)] for shard in range(PARTITIONS)]
"""By shard."""


def judge(outputs: Outputs) -> list[str]:
    """Every reply, each of its parts, once; a request that cannot be read has none."""
    expected = [
        orjson.loads(value or b"")
        for shard, requests in enumerate(REQUESTS)
        for request in requests
        for _, value in write_reply(b"me", request.id, ShardSearch(VIEWS[shard], _retrieval()).reply(shard, 0, request))
    ]
    found: list[Any] = [record.row for partition in outputs[f"{NAME}.shard-hits"] for record in partition]
    return differences("replies", expected, found)


def _retrieval() -> Any:
    return SETTINGS.answer.retrieval


def _input(shard: int) -> list[tuple[bytes | None, bytes | None]]:
    requests: list[tuple[bytes | None, bytes | None]] = [(b"me", write_request(one)) for one in REQUESTS[shard]]
    return [*requests[:4], (b"me", BROKEN), (None, None), *requests[4:]]


CASE = Case("shards", build, {f"{NAME}.shard-queries": [_input(shard) for shard in range(PARTITIONS)]}, judge)
