"""Tumbling, hopping and cumulative windows against the record-at-a-time oracle: any disorder, cuts, interleaving, commits and crashes."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.topics.batch import BEFORE, MIN_TIME, OFFSET, TIME
from millstream.topics.schema import Schema
from millstream.workers.operators.window_aggregate import WindowAggregate
from millstream.workers.reducer import Reducer, parse_reducer
from millstream.workers.windows._aligned import AlignedWindow
from millstream.workers.windows.cumulative import cumulative
from tests.oracles.windows import REDUCERS, CumulativeOracle, WindowOracle
from tests.workers.window_run import Event, Log, WindowRun

SCHEMA = Schema.of({"id": "int", "user": "string", "shop": "int", "price": "float", "n": "int", "page": "string"})
AGGREGATES = ("count()", "count(price)", "sum(n)", "sum(price)", "mean(n)", "min(price)", "max(n)", "min(page)")
AGGREGATES_OF_ORDER = ("first(page)", "last(n)", "last(page)", "first(price)", "collect(page)", "sum(price)")
AGGREGATES_OF_SETS = (
    "count_distinct(page)",
    "collect(price)",
    "count_distinct(price)",
    "count_distinct(n)",
    "max(page)",
)


def _aggregates(texts: tuple[str, ...]) -> tuple[tuple[str, Reducer], ...]:
    return tuple((f"a{i}", parse_reducer(text)) for i, text in enumerate(texts))


def _step(rng: random.Random, emit: str, texts: tuple[str, ...], *, early: bool = False) -> WindowAggregate:
    size = rng.randrange(1, 30)
    hop = rng.choice([size, size, rng.randrange(1, 40)])
    offset = rng.choice([0, rng.randrange(-50, 50)])
    grid: Any = AlignedWindow("hopping", size, hop, offset)
    if rng.random() < 0.3:
        grid = cumulative(size * rng.randrange(1, 6), size, offset)
    every = rng.choice([1, 7, 40]) if early else None
    by = rng.choice([("user",), ("shop",), ("user", "shop")])
    grace = rng.choice([0, 0, 1, 4, 30])
    return WindowAggregate(grid, by, _aggregates(texts), grace, emit, every_ms=every)  # type: ignore[arg-type]


def _values(rng: random.Random, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "user": rng.choice(["a", "b", 'k"é', ""]),
        "shop": rng.choice([1, -7, 1 << 62]),
        # Quarters, so that sums are exact in any order.
        "price": rng.choice([None, 0.0, rng.randrange(-40, 40) / 4]),
        "n": rng.choice([None, rng.randrange(-9, 9), (1 << 53) + 1, -(1 << 59)]),
        "page": rng.choice([None, "", "ä", rng.choice("abc")]),
    }


def _log(rng: random.Random) -> Log:
    """Rows of some partitions with their watermarks, and now and then the task's: the smallest of those that do not sleep."""
    partitions, out_of_order = rng.choice([1, 1, 3]), rng.choice([0, 3, 20])
    disorder, clock = rng.choice([1, 10, 100]), rng.randrange(-100, 60)
    own, task, number = [MIN_TIME] * partitions, MIN_TIME, 0
    log: Log = []
    for _ in range(rng.randrange(1, 30)):
        sleeper = rng.choice([None, None, 0]) if partitions > 1 else None
        partition = rng.randrange(partitions)
        rows = []
        for _ in range(rng.choice([1, 5, 40])):
            clock += rng.choice([0, 0, 1, 2, 5]) if rng.random() < 0.95 else rng.randrange(0, 90)
            time = clock - rng.randrange(disorder)
            rows.append(Event(partition, time, _values(rng, number), own[partition]))
            own[partition] = max(own[partition], time - out_of_order)
            number += 1
        log.append(rows)
        task = max(task, min(w for i, w in enumerate(own) if i != sleeper))
        if rng.random() < 0.8:
            log.append(task)
    return log


def _oracle(step: WindowAggregate, log: Log) -> WindowOracle:
    window: Any = step.window
    grows = window.name == "cumulative"
    made, every = (CumulativeOracle, window.step_ms) if grows else (WindowOracle, window.hop_ms)
    oracle: WindowOracle = made(window.size_ms, every, window.offset_ms, step.grace_ms)
    for entry in log:
        if isinstance(entry, int):
            oracle.advance(entry)
            continue
        for event in entry:
            oracle.row(tuple(event.values[name] for name in step.by), event.time, event.before, event.values)
    return oracle


def _expected(step: WindowAggregate, oracle: WindowOracle) -> dict[Any, list[Any]]:
    def reduced(reducer: Reducer, rows: list[tuple[int, Any]]) -> Any:
        if reducer.column is None:
            return len(rows)
        return REDUCERS[reducer.name]([(time, values[reducer.column]) for time, values in rows])

    return {key: [reduced(reducer, rows) for _, reducer in step.aggregates] for key, rows in oracle.rows.items()}


def _got(step: WindowAggregate, row: dict[str, Any]) -> tuple[Any, list[Any]]:
    window: Any = step.window
    name = row["window_start"]
    if window.name == "cumulative":
        name = row["window_start"], row["window_end"]
    else:
        assert row["window_end"] - row["window_start"] == window.size_ms
    assert row[TIME] == row["window_end"] - 1
    assert row[BEFORE] <= row[TIME]
    assert row[OFFSET] == -1
    key = tuple(row[column] for column in step.by), name
    return key, [row[column] for column, _ in step.aggregates]


def _check(
    seed: int, emit: str, *, crash: float, texts: tuple[str, ...] = AGGREGATES, early: bool = False
) -> WindowRun:
    rng = random.Random(seed)
    step, log = _step(rng, emit, texts, early=early), _log(rng)
    run = WindowRun(step, SCHEMA, rng, crash=crash).run(log)
    oracle = _oracle(step, log)
    table: dict[Any, list[Any]] = {}
    for rows in run.rows:
        got = [_got(step, row) for row in rows]
        assert early or len({key for key, _ in got}) == len(got), "a key and window twice in one commit"
        if emit == "final" and not early:
            assert not {key for key, _ in got} & set(table), "a window was given twice"
        table.update(got)
    expected = _expected(step, oracle)
    assert table == {
        key: [pytest.approx(v) if isinstance(v, float) else v for v in row] for key, row in expected.items()
    }
    late = Counter(row["id"] for row in run.late)
    assert late == Counter(values["id"] for values in [*oracle.late, *oracle.woke])
    assert all(row["late_reason"] for row in run.late)
    counts = run.context.counts
    assert counts.get("late_rows", 0) == len(oracle.late)
    assert counts.get("late_rows.partition_woke", 0) == len(oracle.woke)
    assert counts.get("late_window_rows", 0) == oracle.late_pairs
    assert counts.get("rows_in_no_window", 0) == oracle.in_no_window
    assert run.context.rejected == []
    return run


def _check_nothing_left(run: WindowRun) -> None:
    """All windows closed: changelog and database keep only how far windows are closed."""
    assert {key for key, value in run.changelog_table.items() if value is not None} == {b"\x00closed"}
    run.disk.write(run.state.take_checkpoint(), 0)
    assert set(run.disk.entries) == {b"\x00closed"}
    assert run.state.take_changes() == []
    assert run.state.size_bytes == 0


@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 40))
def test_final_results_are_those_of_the_oracle(seed: int) -> None:
    _check_nothing_left(_check(seed, "final", crash=0.0))


@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 40))
def test_updates_come_to_the_results_of_the_oracle(seed: int) -> None:
    _check_nothing_left(_check(seed, "update", crash=0.0))


@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 40), emit=st.sampled_from(["update", "final"]))
def test_crashes_change_nothing(seed: int, emit: str) -> None:
    _check_nothing_left(_check(seed, emit, crash=0.2))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1 << 40),
    emit=st.sampled_from(["update", "final"]),
    texts=st.sampled_from([AGGREGATES_OF_ORDER, AGGREGATES_OF_SETS]),
)
def test_the_other_reducers_and_crashes(seed: int, emit: str, texts: tuple[str, ...]) -> None:
    _check_nothing_left(_check(seed, emit, crash=0.2, texts=texts))


@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 40), emit=st.sampled_from(["update", "final"]))
def test_early_results_come_to_those_of_the_oracle(seed: int, emit: str) -> None:
    """And are given at most once in each `every` of the watermark, but for what comes when the window closes."""
    run = _check(seed, emit, crash=0.0, early=True)
    step: Any = run.step
    cells: dict[Any, list[int]] = {}
    for row in [row for rows in run.rows for row in rows]:
        cells.setdefault(_got(step, row)[0], []).append((row[BEFORE] + step.grace_ms) // step.every_ms)
    for *early, _ in cells.values():
        assert len(set(early)) == len(early)
    _check_nothing_left(run)


@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 40), emit=st.sampled_from(["update", "final"]))
def test_early_results_survive_crashes(seed: int, emit: str) -> None:
    _check_nothing_left(_check(seed, emit, crash=0.2, early=True))
