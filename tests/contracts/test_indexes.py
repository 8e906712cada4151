"""What every index promises, with a dictionary searched from end to end as the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.rag.errors import IndexDamagedError, PartError
from millstream.rag.index import Index
from millstream.rag.indexes.auto import Auto
from millstream.rag.parts import part_named, part_names
from tests.postgres import Postgres

SIZE = 16


def vectors(seed: int, count: int, size: int = SIZE) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


KINDS = [(name, {}) for name in part_names("index")] + [("auto", {"exact_chunks_max": 12})]
"""Every index, and one that changes over within these tests."""


def made(kind: tuple[str, dict]) -> Index:
    name, options = kind
    return part_named("index", name, {"dimensions": SIZE, **options})


@pytest.fixture(scope="module", autouse=True)
def _server(postgres: Postgres) -> None:
    """Where `pgvector` finds one."""


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> tuple[str, dict]:
    return request.param


@pytest.fixture
def index(kind: tuple[str, dict]) -> Index:
    return made(kind)


def rebuilt(index: Index) -> None:
    rebuild = index.begin_rebuild()
    rebuild.run()
    while not index.finish_rebuild(rebuild):
        rebuild.run()


def test_the_nearest_comes_first(index: Index) -> None:
    rows = vectors(0, 50)
    index.upsert(np.arange(50), rows)
    found = index.search(rows[7], 3)
    assert found.numbers[0] == 7
    assert found.similarities[0] == pytest.approx(1, abs=0.01)
    assert list(found.similarities) == sorted(found.similarities, reverse=True)


def test_nothing_is_found_in_nothing(index: Index) -> None:
    assert len(index.search(vectors(0, 1)[0], 5)) == 0
    index.upsert(np.array([3]), vectors(0, 1))
    index.remove(np.array([3, 4]))
    assert len(index.search(vectors(0, 1)[0], 5)) == len(index) == 0


def test_fewer_are_found_only_where_there_are_fewer(index: Index) -> None:
    index.upsert(np.arange(4), vectors(0, 4))
    assert sorted(index.search(vectors(1, 1)[0], 9).numbers.tolist()) == [0, 1, 2, 3]


def test_an_upsert_replaces(index: Index) -> None:
    a, b = vectors(0, 2)
    index.upsert(np.array([5]), a[None])
    index.upsert(np.array([5]), b[None])
    assert len(index) == 1
    assert index.search(b, 1).similarities[0] == pytest.approx(1, abs=0.01)
    assert index.similarities(b, np.array([5]))[0] == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(index.vectors(np.array([5])), b[None], atol=0.001)


def test_a_number_is_used_again(index: Index) -> None:
    a, b = vectors(0, 2)
    index.upsert(np.array([0]), a[None])
    index.remove(np.array([0]))
    index.upsert(np.array([0]), b[None])
    assert index.search(b, 5).numbers.tolist() == [0]


def test_a_bitmap_shorter_than_the_numbers_forbids_the_rest(index: Index) -> None:
    index.upsert(np.arange(20), vectors(0, 20))
    assert index.search(vectors(1, 1)[0], 20, np.ones(3, np.bool_)).numbers.max() == 2
    assert len(index.search(vectors(1, 1)[0], 20, np.zeros(0, np.bool_))) == 0


steps = st.lists(
    st.tuples(
        st.sampled_from(["upsert", "upsert", "remove", "search", "begin", "run", "finish", "save"]),
        st.integers(0, 2**31),
        st.integers(1, 12),
    ),
    min_size=1,
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(steps=steps, kind=st.sampled_from(KINDS))
def test_it_finds_what_an_exact_search_finds(tmp_path: Path, steps: list, kind: tuple) -> None:
    """Random updates and searches, with and without filters, rebuilds under way and restarts. At this size the graph is exact too."""
    index = made(kind)
    truth: dict[int, np.ndarray] = {}
    rebuild = None
    for what, seed, count in steps:
        draw = np.random.default_rng(seed)
        numbers = draw.choice(40, count, replace=False)
        if what == "upsert":
            rows = vectors(seed, count)
            index.upsert(numbers, rows)
            truth |= dict(zip(numbers.tolist(), rows, strict=True))
        elif what == "remove":
            index.remove(numbers)
            truth = {number: row for number, row in truth.items() if number not in set(numbers.tolist())}
        elif what == "begin" and rebuild is None:
            rebuild = index.begin_rebuild()
        elif what == "run" and rebuild is not None:
            rebuild.run()
        elif what == "finish" and rebuild is not None:
            rebuild.run()
            rebuild = None if index.finish_rebuild(rebuild) else rebuild
        elif what == "save":
            index, rebuild = _restarted(index, made(kind), truth, tmp_path / "graph"), None
        _compare(index, truth, vectors(seed + 1, 1)[0], count, draw.random(40) < 0.5)


def _restarted(index: Index, again: Index, truth: dict[int, np.ndarray], path: Path) -> Index:
    """Saved, its process ended, and loaded into `again`; built anew where it says so."""
    index.save(path)
    getattr(index, "close", bool)()
    numbers = np.array(sorted(truth), np.int64)
    rows = np.stack([truth[number] for number in sorted(truth)]) if truth else np.zeros((0, SIZE), np.float32)
    try:
        again.load(path, numbers, rows)
    except IndexDamagedError:
        assert len(again) == 0
        again.upsert(numbers, rows)
    return again


def _compare(index: Index, truth: dict[int, np.ndarray], query: np.ndarray, k: int, allowed: np.ndarray) -> None:
    assert len(index) == len(truth)
    for bitmap in (None, allowed):
        scores = {number: float(row @ query) for number, row in truth.items() if bitmap is None or bitmap[number]}
        found = index.search(query, k, bitmap)
        best = sorted(scores.values(), reverse=True)[:k]
        np.testing.assert_allclose(found.similarities, best, atol=0.01)
        np.testing.assert_allclose([scores[number] for number in found.numbers.tolist()], best, atol=0.01)


def test_most_of_the_true_neighbours_are_found(index: Index, kind: tuple) -> None:
    """Recall@10 at 12,000 vectors: all, and with a filter that leaves few or most (below and above the scan's limit)."""
    count = (
        3_000 if kind[0] == "pgvector" else 12_000
    )  # PostgreSQL takes milliseconds for each; its limit is lower, too
    rows = vectors(0, count)
    index.upsert(np.arange(count), rows)
    draws = np.random.default_rng(1).random(count)
    for bitmap in (None, draws < 0.005, draws < 0.9):
        hits = 0
        for query in vectors(2, 30):
            scores = np.where(True if bitmap is None else bitmap, rows @ query, -2)
            hits += len(set(np.argsort(-scores)[:10].tolist()) & set(index.search(query, 10, bitmap).numbers.tolist()))
        assert hits >= 0.9 * 300


def test_a_saved_index_comes_back(index: Index, kind: tuple, tmp_path: Path) -> None:
    rows = vectors(0, 300)
    index.upsert(np.arange(300), rows)
    if index.wants_rebuild:
        rebuilt(index)
    index.save(tmp_path / "graph")
    again = _restarted(index, made(kind), dict(enumerate(rows)), tmp_path / "graph")
    assert again.search(rows[9], 5).numbers.tolist() == index.search(rows[9], 5).numbers.tolist()
    again.remove(np.array([9]))
    assert 9 not in again.search(rows[9], 5).numbers.tolist()


@pytest.mark.parametrize("content", [None, b"", b"junk" * 100])
def test_a_damaged_graph_is_refused_and_can_be_built_anew(content: bytes | None, tmp_path: Path) -> None:
    index: Index = part_named("index", "hnsw", {"dimensions": SIZE})
    if content is not None:
        (tmp_path / "graph").write_bytes(content)
    with pytest.raises(IndexDamagedError, match="graph"):
        index.load(tmp_path / "graph", np.arange(3), vectors(0, 3))
    index.upsert(np.arange(3), vectors(0, 3))
    assert len(index.search(vectors(0, 1)[0], 5)) == 3


def test_the_graph_of_other_vectors_is_refused(tmp_path: Path) -> None:
    index: Index = part_named("index", "hnsw", {"dimensions": SIZE})
    index.upsert(np.arange(4), vectors(0, 4))
    index.save(tmp_path / "graph")
    for numbers in (np.arange(3), np.arange(1, 5)):
        with pytest.raises(IndexDamagedError, match="not the graph of these"):
            part_named("index", "hnsw", {"dimensions": SIZE}).load(
                tmp_path / "graph", numbers, vectors(0, len(numbers))
            )


def test_half_replaced_wants_a_rebuild_and_is_content_after_it() -> None:
    index: Index = part_named("index", "hnsw", {"dimensions": SIZE})
    index.upsert(np.arange(3_000), vectors(0, 3_000))
    assert not index.wants_rebuild
    index.upsert(np.arange(1_600), vectors(1, 1_600))
    assert index.wants_rebuild
    rebuild = index.begin_rebuild()
    index.upsert(np.array([5_000]), vectors(2, 1))
    rebuild.run()
    assert index.finish_rebuild(rebuild)
    assert not index.wants_rebuild
    assert index.search(vectors(2, 1)[0], 1).numbers.tolist() == [5_000]


def test_what_changes_during_a_rebuild_is_built_in_the_thread_too() -> None:
    """Only a handful is left for the moment of the swap, in which questions wait."""
    index: Index = part_named("index", "hnsw", {"dimensions": SIZE})
    index.upsert(np.arange(2_000), vectors(0, 2_000))
    rebuild = index.begin_rebuild()
    rebuild.run()
    index.upsert(np.arange(500), vectors(1, 500))
    index.remove(np.arange(500, 600))
    assert not index.finish_rebuild(rebuild)
    index.upsert(np.array([3_000]), vectors(2, 1))
    rebuild.run()
    assert index.finish_rebuild(rebuild)
    for expected, query in ((3_000, vectors(2, 1)[0]), (7, vectors(1, 8)[7]), (700, vectors(0, 701)[700])):
        assert index.search(query, 1).numbers.tolist() == [expected]
    assert len(index) == len(index.search(query, 5_000)) == 1_901


def test_a_rebuild_ends_however_much_changes() -> None:
    index: Index = part_named("index", "hnsw", {"dimensions": SIZE})
    index.upsert(np.arange(100), vectors(0, 100))
    rebuild = index.begin_rebuild()
    rebuild.run()
    rounds = 1
    index.upsert(np.arange(100), vectors(rounds, 100))
    while not index.finish_rebuild(rebuild):
        rounds += 1
        rebuild.run()
        index.upsert(np.arange(100), vectors(rounds, 100))
    assert 1 < rounds < 30
    assert index.search(vectors(rounds, 8)[7], 1).numbers.tolist() == [7]


def test_auto_is_exact_up_to_its_limit_and_again_well_below_it() -> None:
    index = Auto(SIZE, exact_chunks_max=100)
    index.upsert(np.arange(100), vectors(0, 100))
    assert (index.is_exact, index.wants_rebuild) == (True, False)
    index.upsert(np.array([100]), vectors(1, 1))
    assert index.wants_rebuild
    rebuilt(index)
    assert (index.is_exact, index.wants_rebuild) == (False, False)
    index.remove(np.arange(50))
    assert not index.wants_rebuild
    index.remove(np.arange(50, 60))
    assert index.wants_rebuild
    rebuilt(index)
    assert (index.is_exact, index.wants_rebuild, len(index)) == (True, False, 41)


@pytest.mark.parametrize("removed", [[], range(70)])
def test_auto_comes_back_as_the_kind_it_was(removed: Sequence[int], tmp_path: Path) -> None:
    """A graph between its two limits is a graph after a restart, too; one that was lost is built beside the searches."""
    rows = vectors(0, 101)
    truth = dict(enumerate(rows))
    index = Auto(SIZE, exact_chunks_max=100)
    index.upsert(np.arange(101), rows)
    rebuilt(index)
    index.remove(np.array(removed, np.int64))
    left = {number: row for number, row in truth.items() if number not in removed}
    again = _restarted(index, Auto(SIZE, exact_chunks_max=100), left, tmp_path / "graph")
    assert isinstance(again, Auto)
    assert (again.is_exact, again.wants_rebuild) == (False, bool(removed))
    (tmp_path / "graph").unlink()
    lost = Auto(SIZE, exact_chunks_max=100)
    if removed:
        lost.load(tmp_path / "graph", np.array(sorted(left)), np.stack(list(left.values())))
    else:
        with pytest.raises(IndexDamagedError, match="no graph of these 101"):
            lost.load(tmp_path / "graph", np.arange(101), rows)
    assert lost.is_exact


def test_an_exact_auto_leaves_no_graph_of_an_earlier_attempt(tmp_path: Path) -> None:
    """A crash between the graph and the checkpoint leaves a file under the name that the next checkpoint takes."""
    (tmp_path / "graph").write_bytes(b"of other vectors")
    index = Auto(SIZE)
    index.upsert(np.arange(3), vectors(0, 3))
    again = _restarted(index, Auto(SIZE), dict(enumerate(vectors(0, 3))), tmp_path / "graph")
    assert len(again) == 3
    assert not (tmp_path / "graph").exists()


@pytest.mark.parametrize("dtype", ["bf16", "f16", "i8", "f32"])
def test_each_type_of_graph_finds_most_neighbours(dtype: str) -> None:
    index: Index = part_named("index", "hnsw", {"dimensions": 64, "dtype": dtype})
    rows = vectors(0, 3_000, 64)
    index.upsert(np.arange(3_000), rows)
    hits = 0
    for query in vectors(1, 30, 64):
        found = index.search(query, 10)
        hits += len(set(np.argsort(-(rows @ query))[:10].tolist()) & set(found.numbers.tolist()))
        np.testing.assert_allclose(found.similarities, rows[found.numbers] @ query, atol=0.002)
    assert hits >= 0.9 * 300


def test_another_type_of_graph_is_refused() -> None:
    with pytest.raises(PartError, match="dtype must be one of bf16, f16, i8, f32, got 'b1'"):
        part_named("index", "auto", {"dimensions": SIZE, "dtype": "b1"})
