"""What every index promises, with a dictionary searched from end to end as the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.rag.errors import IndexDamagedError
from millstream.rag.index import Index
from millstream.rag.parts import part_named, part_names

SIZE = 16


def vectors(seed: int, count: int, size: int = SIZE) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(params=part_names("index"))
def index(request: pytest.FixtureRequest) -> Index:
    return part_named("index", request.param, {"dimensions": SIZE})


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
    st.tuples(st.sampled_from(["upsert", "remove", "search", "rebuild"]), st.integers(0, 2**31), st.integers(1, 12)),
    min_size=1,
    max_size=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(steps=steps, name=st.sampled_from(part_names("index")))
def test_it_finds_what_an_exact_search_finds(steps: list, name: str) -> None:
    """Random updates and searches, with and without filters. At this size the graph is exact too."""
    index: Index = part_named("index", name, {"dimensions": SIZE})
    truth: dict[int, np.ndarray] = {}
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
        elif what == "rebuild":
            rebuild = index.begin_rebuild()
            index.remove(numbers[:1])
            truth.pop(int(numbers[0]), None)
            rebuild.run()
            index.finish_rebuild(rebuild)
        _compare(index, truth, vectors(seed + 1, 1)[0], count, draw.random(40) < 0.5)


def _compare(index: Index, truth: dict[int, np.ndarray], query: np.ndarray, k: int, allowed: np.ndarray) -> None:
    assert len(index) == len(truth)
    for bitmap in (None, allowed):
        scores = {number: float(row @ query) for number, row in truth.items() if bitmap is None or bitmap[number]}
        found = index.search(query, k, bitmap)
        best = sorted(scores.values(), reverse=True)[:k]
        np.testing.assert_allclose(found.similarities, best, atol=0.01)
        np.testing.assert_allclose([scores[number] for number in found.numbers.tolist()], best, atol=0.01)


def test_most_of_the_true_neighbours_are_found(index: Index) -> None:
    """Recall@10 at 12,000 vectors: all, and with a filter that leaves few or most (below and above the scan's limit)."""
    rows = vectors(0, 12_000)
    index.upsert(np.arange(12_000), rows)
    draws = np.random.default_rng(1).random(12_000)
    for bitmap in (None, draws < 0.005, draws < 0.9):
        hits = 0
        for query in vectors(2, 30):
            scores = np.where(True if bitmap is None else bitmap, rows @ query, -2)
            hits += len(set(np.argsort(-scores)[:10].tolist()) & set(index.search(query, 10, bitmap).numbers.tolist()))
        assert hits >= 0.9 * 300


def test_a_saved_index_comes_back(index: Index, tmp_path: Path) -> None:
    rows = vectors(0, 300)
    index.upsert(np.arange(300), rows)
    index.save(tmp_path / "graph")
    again = type(index)(SIZE)  # type: ignore[call-arg]
    again.load(tmp_path / "graph", np.arange(300), rows)
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
    index.finish_rebuild(rebuild)
    assert not index.wants_rebuild
    assert index.search(vectors(2, 1)[0], 1).numbers.tolist() == [5_000]
