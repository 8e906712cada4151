"""A graph whose vectors are replaced finds those that are there, and none that went, against a dictionary searched from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.rag.errors import IndexDamagedError
from millstream.rag.vector_graph import VectorGraph

SIZE, NUMBERS = 8, 12
OPTIONS: dict[str, Any] = {
    "ndim": SIZE,
    "metric": "cos",
    "dtype": "f32",
    "connectivity": 16,
    "expansion_add": 128,
    "expansion_search": 128,
}


def unit(seed: int) -> np.ndarray:
    row = np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)
    return row / np.linalg.norm(row)


class Both:
    """The graph, and what it must hold."""

    def __init__(self, folder: Path) -> None:
        self.graph, self.held, self.path = VectorGraph(OPTIONS), dict[int, np.ndarray](), folder / "graph"

    def put(self, numbers: list[int], seed: int) -> None:
        rows = [unit(seed + number) for number in numbers]
        self.remove(numbers)
        self.graph.add(np.array(numbers), np.array(rows))
        self.held |= dict(zip(numbers, rows, strict=True))

    def remove(self, numbers: list[int]) -> None:
        there = [number for number in numbers if self.held.pop(number, None) is not None]
        self.graph.remove(np.array(there, np.int64))

    def restart(self) -> None:
        self.graph.save(self.path)
        self.graph = VectorGraph(OPTIONS)
        self.graph.load(self.path, np.array(list(self.held), np.int64))

    def check(self, k: int, seed: int) -> None:
        query = unit(seed)
        best = sorted(self.held, key=lambda number: -float(self.held[number] @ query))[:k]
        assert self.graph.nearest(query, k).tolist()[:k] == best


numbers = st.lists(st.integers(0, NUMBERS - 1), min_size=1, max_size=6, unique=True)
steps = st.lists(st.tuples(st.sampled_from(["put", "put", "remove", "restart"]), numbers), min_size=1, max_size=80)


@given(steps, st.integers(1, NUMBERS))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_finds_what_is_there(tmp_path: Path, steps: list[tuple[str, list[int]]], k: int) -> None:
    both = Both(tmp_path)
    for seed, (step, chosen) in enumerate(steps):
        match step:
            case "put":
                both.put(chosen, seed * NUMBERS)
            case "remove":
                both.remove(chosen)
            case _:
                both.restart()
        if both.held:
            both.check(k, seed)


def test_the_same_number_again_and_again(tmp_path: Path) -> None:
    """More often than vectors that went are kept: each time only the newest is found, and as many as asked for."""
    both = Both(tmp_path)
    both.put(list(range(NUMBERS)), 0)
    for turn in range(1, 200):
        both.put([3], turn * NUMBERS)
        both.check(NUMBERS, turn)
    both.restart()
    both.check(NUMBERS, 0)


def test_what_went_is_nearer_than_all_that_is_there(tmp_path: Path) -> None:
    """And there are as many of it as may be: it takes no place of what is asked for."""
    both = Both(tmp_path)
    both.put(list(range(NUMBERS)), 0)
    crowd = np.arange(100, 163)
    both.graph.add(crowd, np.array([unit(7)] * len(crowd)))
    both.graph.remove(crowd)
    both.check(NUMBERS, 7)


def test_numbers_that_were_never_there_do_no_harm(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.put([1, 2], 0)
    for number in range(1_000, 1_200):
        both.graph.remove(np.array([number]))
    both.put([1_100], 0)
    both.check(3, 0)


@pytest.mark.parametrize("others", [[1], [1, 3], [1, 2, 3]])
def test_the_graph_of_other_numbers_is_refused(tmp_path: Path, others: list[int]) -> None:
    both = Both(tmp_path)
    both.put([1, 2], 0)
    both.put([2], 5)
    both.graph.save(both.path)
    with pytest.raises(IndexDamagedError, match=r"not the graph of these"):
        VectorGraph(OPTIONS).load(both.path, np.array(others))
