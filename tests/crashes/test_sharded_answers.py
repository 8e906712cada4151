"""Questions over an index in shards, with one of two workers killed at any point: each gets one answer, from all shards."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from millstream.rag.embedders.hashing import Hashing
from millstream.rag.messages import Query, write_query
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentSettings, bind_answers, document_pipeline
from millstream.rag.settings import ShardSettings
from millstream.rag.shard_views import ShardViews
from millstream.rag.updates import Update, read_update, vector_bytes, write_update
from millstream.rag.view import IndexView
from millstream.rag.view_state import ViewState
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Fetch, Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.memory import MemoryBroker
from millstream.topics.memory.producer import columns_of
from millstream.workers.app import App
from tests.crashes.case import NAME, Case, Outputs, differences
from tests.crashes.cases_rows import PARTITIONS
from tests.crashes.enumeration import different, sampled, wrong_runs
from tests.crashes.process import CrashingWorker
from tests.crashes.world import Faulty, run, shared
from tests.rag.shards import Record, record, split

DIMENSIONS = 8
WORDS = ["lamp", "rope", "bell", "map", "clock"]
HASHING = Hashing(DIMENSIONS)
SETTINGS = DocumentSettings.of(
    NAME,
    embedder=Part("hashing", {"dimensions": DIMENSIONS}),
    strategy="retrieve",
    sharded=ShardSettings(deadline_ms=30_000),
    partitions=PARTITIONS,
)
QUESTIONS = [f"{partition}-{number}" for partition in range(PARTITIONS) for number in range(6)]


def _records() -> list[Record]:
    """As this embedder's: the shards pass over what another one made."""
    vectors = asyncio.run(HASHING.embed(WORDS, "document"))
    made = [record(f"doc-{word}", word, vector) for word, vector in zip(WORDS, vectors, strict=True)]
    return [(key, _renamed(read_update(key, value or b""))) for key, value in made]


def _renamed(update: Update) -> bytes:
    return write_update(update.chunk, vector_bytes(update.vector, "f32"), HASHING.fingerprint(), "f32")


INDEX = split(_records(), PARTITIONS)


def _indexed(broker: MemoryBroker) -> None:
    """The index is there before the first question."""
    cluster, topics = broker._cluster, SETTINGS.topics
    if cluster.has(Partition(topics.index_updates, 0)):
        return
    cluster.create([TopicSpec(topics.index_updates, PARTITIONS, cleanup="compact")])
    for shard, part in enumerate(INDEX):
        keys, values = (large_binary(column) for column in zip(*part, strict=True))
        columns = columns_of(Records(keys, values), cluster.clock.now_ms)
        cluster.log(Partition(topics.index_updates, shard)).append(columns)


class _Bound(CrashingWorker):
    """Of a process whose views and askers use the process's own connection, and die with it."""

    def __init__(self, app: App, broker: Any, **options: Any) -> None:
        bind_answers(app, broker, MemoryDatabase)
        super().__init__(app, broker, **options)


def _build(app: App) -> None:
    document_pipeline(app, SETTINGS, ingest=False)


def _judge(outputs: Outputs) -> list[str]:
    expected = [(name, sorted(f"doc-{word}" for word in WORDS), None, None) for name in QUESTIONS]
    found = [
        (row["id"], sorted(one["uri"] for one in row["sources"]), row["error"], row.get("incomplete"))
        for partition in outputs[f"{NAME}.retrievals"]
        for row in (record.row for record in partition)
    ]
    return differences("retrievals", expected, found)


def _question(name: str) -> Record:
    return name.encode(), write_query(Query(name, "a lamp and a bell", k=9))


CASE = Case(
    "answers over shards",
    _build,
    {f"{NAME}.queries": [[_question(one) for one in QUESTIONS if one[0] == str(part)] for part in range(PARTITIONS)]},
    _judge,
)
FAULTY = Faulty(worker=_Bound, prepare=_indexed)


def test_two_workers_answer_every_question_once_from_all_shards() -> None:
    world = run(CASE, shared, FAULTY)
    assert world.judged() == []


@pytest.mark.parametrize("process", [0, 1], ids=["the first", "the one that joins"])
def test_a_kill_at_any_point_leaves_no_question_unanswered_and_none_answered_twice_or_by_half(process: int) -> None:
    """Shards that were the dead worker's are read by the other one, and what was asked of them is asked of it."""
    points = run(CASE, shared, FAULTY).processes[process].points
    positions = sampled(different(points), 24, f"{CASE.name} {process}")
    runs = (replace(FAULTY, kills={process: at}) for at in positions)
    assert (
        wrong_runs(CASE, shared, runs, must_crash=False) == []
    )  # names are drawn, and with them the replies' partitions


def test_a_shard_that_answers_before_it_is_caught_up_is_seen_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where reading takes a while: were "later" not said, some answer would be from half an index, in silence."""
    apply = IndexView._apply

    async def slowly(view: IndexView, state: ViewState, fetch: Fetch) -> None:
        read = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, read.set)  # of virtual time
        await read.wait()
        await apply(view, state, fetch)

    monkeypatch.setattr(IndexView, "_apply", slowly)
    assert run(CASE, shared, FAULTY).judged() == []
    monkeypatch.setattr(IndexView, "is_ready", property(lambda view: True))
    assert any("wrong" in said and "None, None" in said for said in run(CASE, shared, FAULTY).judged())


def test_and_so_is_an_answer_that_does_not_wait_for_all_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they take a while: it says which are missing."""
    replied = ShardViews.replied

    async def slowly(views: ShardViews, shard: int, key: bytes | None, value: bytes | None) -> list[Record]:
        searched = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, searched.set)  # of virtual time
        await searched.wait()
        return await replied(views, shard, key, value)

    monkeypatch.setattr(ShardViews, "replied", slowly)
    hasty = replace(SETTINGS.answer, sharded=ShardSettings(deadline_ms=1))

    def build(app: App) -> None:
        document_pipeline(app, replace(SETTINGS, answer=hasty), ingest=False)

    said = run(replace(CASE, build=build), shared, FAULTY).judged()
    assert any("no answer within 1 ms" in one for one in said)
