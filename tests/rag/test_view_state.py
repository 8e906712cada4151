"""The view is a function of the compacted topic, whatever was read twice, crashed or restarted in between."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.rag.document import Chunk, chunk_ids
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.filter import Filter
from millstream.rag.indexes.exact import Exact
from millstream.rag.metadata_table import MetadataTable
from millstream.rag.parse_job import Part
from millstream.rag.retrieve import Retriever, Wanted, estimated_sigma
from millstream.rag.settings import RetrievalSettings
from millstream.rag.updates import vector_bytes, write_update
from millstream.rag.view_state import ViewPlan, ViewState
from millstream.state.errors import DiskError
from millstream.state.stores.memory import Fault, MemoryDatabase, SimulatedCrashError

HASHING = Hashing(32)
TEXTS = [f"The {word} is kept in room {n}." for n, word in enumerate(["lamp", "train", "clock", "map", "rope", "bell"])]
PLAN = ViewPlan("updates", "id-1", HASHING.fingerprint(), 32)


async def _vectors() -> np.ndarray:
    return await HASHING.embed(TEXTS, "document")


@pytest.fixture
async def vectors() -> np.ndarray:
    return await _vectors()


def chunk(document: str, number: int, **metadata: object) -> Chunk:
    return Chunk(chunk_ids(document, [TEXTS[number]])[0], document, TEXTS[number], metadata)


def record(one: Chunk, vectors: np.ndarray, model: str = PLAN.model) -> tuple[bytes, bytes]:
    vector = vectors[TEXTS.index(one.text)]
    return one.key.encode(), write_update(one, vector_bytes(vector, "f16"), model, "f16")


def found(view: ViewState, vectors: np.ndarray, number: int, filter_text: str | None = None, k: int = 3) -> list[str]:
    wanted = Wanted(TEXTS[number], vectors[number], k, None if filter_text is None else Filter(filter_text))
    return [hit.chunk.key for hit in Retriever(view, RetrievalSettings()).retrieve(wanted)]


def test_what_was_put_is_found_and_what_was_removed_is_not(vectors: np.ndarray) -> None:
    view = ViewState(PLAN, MemoryDatabase())
    lamp, train = chunk("a", 0), chunk("b", 1)
    view.apply(0, 2, [record(lamp, vectors), record(train, vectors)])
    assert found(view, vectors, 0)[0] == lamp.key
    view.apply(0, 3, [(lamp.key.encode(), None)])
    assert found(view, vectors, 0) == [train.key]
    assert (len(view), view.documents(), view.positions) == (1, {"b": 1}, {0: 3})


def test_metadata_is_filtered_before_the_best_are_taken(vectors: np.ndarray) -> None:
    view = ViewState(PLAN, MemoryDatabase())
    chunks = [chunk(f"d{n}", n, lang="en" if n % 2 else "de") for n in range(6)]
    view.apply(0, 6, [record(one, vectors) for one in chunks])
    assert set(found(view, vectors, 0, "lang == 'en'")) == {one.key for one in chunks if one.metadata["lang"] == "en"}
    assert found(view, vectors, 0, "uri glob 'd[3]'") == []
    assert found(view, vectors, 0, "uri == 'd3'") == [chunks[3].key]
    assert found(view, vectors, 0, "lang == 'fr'") == []


def test_a_record_that_gives_no_chunk_takes_its_key_s_chunk_away(vectors: np.ndarray) -> None:
    """As it would be gone for a view that starts from the compacted topic now."""
    view = ViewState(PLAN, MemoryDatabase())
    lamp, train = chunk("a", 0), chunk("b", 1)
    view.apply(0, 2, [record(lamp, vectors), record(train, vectors)])
    view.apply(0, 5, [(lamp.key.encode(), b"junk"), record(train, vectors, "another model"), (b"no key of ours", b"x")])
    assert len(view) == 0
    assert dict(view.statistics().passed_over) == {"unreadable": 2, "other_model": 1}


@pytest.mark.parametrize("index", ["exact", "hnsw", "auto"])
def test_a_restart_finds_the_checkpoint(vectors: np.ndarray, index: str, tmp_path: Path) -> None:
    plan = ViewPlan("updates", "id-1", PLAN.model, 32, Part(index))
    database = MemoryDatabase()
    view = ViewState(plan, database, tmp_path)
    view.apply(0, 3, [record(chunk("a", n, n=n), vectors) for n in range(3)])
    view.checkpoint(1_000)
    view.apply(0, 4, [record(chunk("a", 3), vectors)])
    again = ViewState(plan, database, tmp_path)
    assert (len(again), again.positions, again.saved_at_ms) == (3, {0: 3}, 1_000)
    assert found(again, vectors, 1)[0] == chunk("a", 1).key
    assert found(again, vectors, 1, "n == 2") == [chunk("a", 2).key]
    assert len(list(tmp_path.glob("graph-*"))) == (1 if index == "hnsw" else 0)


def test_a_lost_graph_is_built_anew(vectors: np.ndarray, tmp_path: Path) -> None:
    plan = ViewPlan("updates", "id-1", PLAN.model, 32, Part("hnsw"))
    database = MemoryDatabase()
    view = ViewState(plan, database, tmp_path)
    view.apply(0, 3, [record(chunk("a", n), vectors) for n in range(3)])
    view.checkpoint(1)
    for path in tmp_path.glob("graph-*"):
        path.write_bytes(b"damaged")
    assert found(ViewState(plan, database, tmp_path), vectors, 1)[0] == chunk("a", 1).key


@pytest.mark.parametrize(
    "other",
    [
        ViewPlan("updates", "id-2", PLAN.model, 32),
        ViewPlan("updates", "id-1", "another model", 32),
        ViewPlan("updates", "id-1", PLAN.model, 64),
        ViewPlan("updates", "id-1", PLAN.model, 32, language="german"),
    ],
)
def test_a_checkpoint_of_something_else_is_not_used(vectors: np.ndarray, other: ViewPlan) -> None:
    """A topic made anew, another embedder: read from the beginning."""
    database = MemoryDatabase()
    view = ViewState(PLAN, database)
    view.apply(0, 1, [record(chunk("a", 0), vectors)])
    view.checkpoint(1)
    again = ViewState(other, database)
    assert (len(again), again.positions, again.saved_at_ms) == (0, {}, None)


def test_a_full_disk_leaves_the_checkpoint_before(vectors: np.ndarray, tmp_path: Path) -> None:
    plan = ViewPlan("updates", "id-1", PLAN.model, 32, Part("hnsw"))
    database = MemoryDatabase()
    view = ViewState(plan, database, tmp_path)
    view.apply(0, 1, [record(chunk("a", 0), vectors)])
    view.checkpoint(1)
    view.apply(0, 2, [record(chunk("a", 1), vectors)])
    database.fail_next(Fault.DISK_FULL)
    with pytest.raises(DiskError):
        view.checkpoint(2)
    assert ViewState(plan, database, tmp_path).positions == {0: 1}
    view.checkpoint(3)
    assert len(ViewState(plan, database, tmp_path)) == 2


events = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "remove", "junk", "checkpoint", "crash", "crash before", "crash after"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 5),
        st.integers(0, 2),
    ),
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(events, st.sampled_from(["exact", "hnsw", "auto"]))
async def test_it_is_what_the_compacted_topic_says(tmp_path_factory, steps: list, index: str) -> None:
    """Random updates on two partitions, checkpoints and crashes; after each crash the tail is read again."""
    vectors = await _vectors()
    folder = tmp_path_factory.mktemp("graphs")
    plan = ViewPlan("updates", "id-1", PLAN.model, 32, Part(index))
    database = MemoryDatabase()
    view = ViewState(plan, database, folder)
    log: dict[int, list] = {0: [], 1: []}
    for what, document, number, meta in steps:
        if what in {"put", "remove", "junk"}:
            one = chunk(document, number, m=meta)
            key, value = record(one, vectors)
            partition = number % 2
            log[partition].append((key, {"put": value, "remove": None, "junk": b"junk"}[what]))
            view.apply(partition, len(log[partition]), log[partition][-1:])
            continue
        if what != "crash":
            if what != "checkpoint":
                database.fail_next(Fault.CRASH_BEFORE if what == "crash before" else Fault.CRASH_AFTER)
            try:
                view.checkpoint(1)
            except SimulatedCrashError:
                view = _restarted(plan, database, folder, log)
        else:
            view = _restarted(plan, database, folder, log)
    _compare(view, {key: value for records in log.values() for key, value in records}, vectors)
    _compare(_restarted(plan, database, folder, log), dict(x for r in log.values() for x in r), vectors)


def _restarted(plan: ViewPlan, database: MemoryDatabase, folder: Path, log: dict[int, list]) -> ViewState:
    view = ViewState(plan, database, folder)
    for partition, records in log.items():
        view.apply(partition, len(records), records[view.positions.get(partition, 0) :])
    return view


def _compare(view: ViewState, truth: dict[bytes, bytes | None], vectors: np.ndarray) -> None:
    alive = {key.decode(): value for key, value in truth.items() if value not in {None, b"junk"}}
    assert len(view) == len(alive) == len(view.keywords) == len(view.index)
    wanted = Wanted("room", vectors[0], 50)
    hits = Retriever(view, RetrievalSettings()).retrieve(wanted)
    assert {hit.chunk.key for hit in hits} == set(alive)
    for meta in range(3):
        test = Filter(f"m == {meta}")
        hits = Retriever(view, RetrievalSettings()).retrieve(Wanted("room", vectors[0], 50, test))
        expected = {key for key, value in alive.items() if b'"metadata":{"m":%d}' % meta in (value or b"")}
        assert {hit.chunk.key for hit in hits} == expected


def test_metadata_is_held_once() -> None:
    table = MetadataTable()
    for number in range(1000):
        table.put(number, f"d{number % 3}", {"x": 1})
    assert len(table) == 3
    for number in range(0, 1000, 3):
        table.drop(number)
    table.drop(5_000)
    table.put(1, "d9", {"x": 2})
    assert len(table) == 3
    assert table.bitmap("d9", lambda names: names["uri"] == "d9").nonzero()[0].tolist() == [1]


def test_a_test_asked_again_is_tried_on_what_is_new() -> None:
    """And on an id that was given to something else meanwhile."""
    table, tried = MetadataTable(), []

    def is_even(names: Mapping[str, Any]) -> bool:
        tried.append(names["x"])
        return bool(names["x"] % 2 == 0)

    for number in range(4):
        table.put(number, "d", {"x": number})
    assert table.bitmap("even", is_even).nonzero()[0].tolist() == [0, 2]
    table.put(2, "d", {"x": 5})
    table.drop(0)
    table.put(300, "d", {"x": 6})
    assert table.bitmap("even", is_even).nonzero()[0].tolist() == [300]
    assert tried == [0, 1, 2, 3, 5, 6]


def test_the_memory_of_tests_is_bounded() -> None:
    table = MetadataTable()
    for turn in range(1_000):
        table.put(0, "d", {"x": turn})
        assert table.bitmap(f"test {turn}", lambda names, turn=turn: names["x"] == turn)[0]  # type: ignore[misc]
    assert len(table._tested) == 32


def test_rare_words_lift_a_chunk(vectors: np.ndarray) -> None:
    """Coverage beside vectors: the vector says nothing, the word decides."""
    view = ViewState(PLAN, MemoryDatabase())
    view.apply(0, 6, [record(chunk("a", n), vectors) for n in range(6)])
    nothing = np.full(32, 32**-0.5, np.float32)
    best = Retriever(view, RetrievalSettings()).retrieve(Wanted("Where is the rope?", nothing, 1))
    assert best[0].chunk.text == TEXTS[4]


def test_sigma_leans_on_the_usual_value_while_there_is_little() -> None:
    index = Exact(64)
    assert estimated_sigma(index, np.zeros(0, np.int64)) == 0.105
    rows = np.random.default_rng(0).normal(size=(300, 64)).astype(np.float32)
    index.upsert(np.arange(300), rows / np.linalg.norm(rows, axis=1, keepdims=True))
    assert estimated_sigma(index, np.arange(3)) == pytest.approx(0.105, abs=0.005)
    assert estimated_sigma(index, np.arange(300)) == pytest.approx(1 / 8, abs=0.01)  # 1 / sqrt(dimensions)
