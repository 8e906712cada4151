"""Session windows against the record-at-a-time oracle: any disorder, cuts, commits and crashes."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millstream.state.sessions import SessionState
from millstream.topics.batch import BEFORE, DELETED, MIN_TIME, TIME
from millstream.topics.schema import Schema
from millstream.workers.operators.session_aggregate import SessionAggregate
from millstream.workers.reducer import Reducer, parse_reducer
from tests.oracles.windows import REDUCERS, SessionOracle
from tests.workers.window_run import Event, Log, WindowRun

SCHEMA = Schema.of({"id": "int", "user": "string", "price": "float", "n": "int", "page": "string"})
OF_NUMBERS = ("count()", "sum(n)", "sum(price)", "mean(n)", "min(price)", "max(n)")
OF_TEXTS = ("count(page)", "first(page)", "last(n)", "collect(page)", "count_distinct(page)", "max(page)", "last(page)")


def _step(rng: random.Random, emit: str, texts: tuple[str, ...], *, early: bool) -> SessionAggregate:
    aggregates = tuple((f"a{i}", parse_reducer(text)) for i, text in enumerate(texts))
    gap, grace = rng.choice([1, 5, 20]), rng.choice([0, 0, 4, 30])
    every = rng.choice([1, 7, 40]) if early else None
    return SessionAggregate(gap, ("user",), aggregates, grace, emit, every_ms=every)  # type: ignore[arg-type]


def _log(rng: random.Random, grace: int, *, on_time: bool, partitions: int = 1) -> Log:
    """On time: no row is behind its watermark by more than the grace."""
    out_of_order, keys = rng.choice([0, 3, 20]), rng.choice([1, 2, 4, 20])
    disorder = rng.choice([0, out_of_order, out_of_order + grace] if on_time else [0, 60, 200])
    clock, number, own, task = rng.randrange(-50, 50), 0, [MIN_TIME] * partitions, MIN_TIME
    log: Log = []
    for _ in range(rng.randrange(1, 25)):
        partition, rows = rng.randrange(partitions), []
        for _ in range(rng.choice([1, 5, 30])):
            clock += rng.choice([0, 0, 1, 2, 5]) if rng.random() < 0.95 else rng.randrange(0, 80)
            time = clock - (rng.randrange(disorder + 1) if rng.random() < 0.5 else 0)
            if on_time:
                time = max(time, own[partition] - grace)
            # Keys of their own a partition, as where a topic is partitioned by them; ties in arrival cannot be told apart.
            values = {
                "id": number,
                "user": f"k{partition if rng.random() < 0.5 else 'x'}-{rng.randrange(keys)}",
                "price": rng.choice([None, rng.randrange(-40, 40) / 4]),
                "n": rng.choice([None, rng.randrange(-9, 9), (1 << 53) + 1]),
                "page": rng.choice([None, "", rng.choice("abcä")]),
            }
            rows.append(Event(partition, time, values, own[partition]))
            own[partition] = max(own[partition], time - out_of_order)
            number += 1
        log.append(rows)
        if rng.random() < 0.7:
            task = max(task, min(own))
            log.append(task)
    return log


def _reduced(reducer: Reducer, rows: list[tuple[int, Any]]) -> Any:
    if reducer.column is None:
        return len(rows)
    value = REDUCERS[reducer.name]([(time, values[reducer.column]) for time, values in rows])
    return pytest.approx(value) if isinstance(value, float) else value


def _oracle(step: SessionAggregate, log: Log) -> SessionOracle:
    oracle = SessionOracle(step.gap_ms, step.grace_ms)
    for event in [event for entry in log if not isinstance(entry, int) for event in entry]:
        oracle.row(event.values["user"], event.time, event.before, event.values)
    oracle.advance(1 << 61)
    return oracle


def _result(step: SessionAggregate, row: dict[str, Any]) -> tuple[Any, ...]:
    assert row[TIME] == row["window_end"] - 1
    assert row[BEFORE] <= row[TIME]
    return row["user"], row["window_start"], row["window_end"], [row[name] for name, _ in step.aggregates]


def _table(step: SessionAggregate, run: WindowRun) -> list[tuple[Any, ...]]:
    """What upserts and tombstones come to; within a commit a name is upserted or taken back, never both, never twice."""
    table: dict[Any, Any] = {}
    for rows in run.rows:
        names = [(row["user"], row["window_start"]) for row in rows]
        assert len(set(names)) == len(names)
        for name, row in zip(names, rows, strict=True):
            if row.get(DELETED):
                assert row[BEFORE] <= row[TIME]
                if step.every_ms is None:
                    assert name in table
                table.pop(name, None)
            else:
                table[name] = _result(step, row)
    return list(table.values())


def _sorted(sessions: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(sessions, key=lambda session: session[:3])


def _check(seed: int, emit: str, *, on_time: bool, crash: float, texts: tuple[str, ...], early: bool = False) -> None:
    rng = random.Random(seed)
    step = _step(rng, emit, texts, early=early)
    log = _log(rng, step.grace_ms, on_time=on_time)
    run = WindowRun(step, SCHEMA, rng, crash=crash).run(log)
    oracle = _oracle(step, log)
    got = _table(step, run) if early or emit == "update" else [_result(step, row) for rows in run.rows for row in rows]
    expected = [(k, s, e, [_reduced(r, rows) for _, r in step.aggregates]) for k, s, e, rows in oracle.closed]
    assert _sorted(got) == _sorted(expected)
    assert Counter(row["id"] for row in run.late) == Counter(values["id"] for values in oracle.late)
    assert run.context.counts.get("late_rows", 0) == len(oracle.late)
    assert not on_time or not oracle.late
    _check_nothing_left(run)


def _check_nothing_left(run: WindowRun) -> None:
    assert {key for key, value in run.changelog_table.items() if value is not None} == {b"\x00closed"}
    run.disk.write(run.state.take_checkpoint(), 0)
    assert set(run.disk.entries) == {b"\x00closed"}
    assert run.state.take_changes() == []
    assert isinstance(run.state, SessionState)
    assert run.state.sessions_open == 0


SEEDS, TEXTS = st.integers(0, 1 << 40), st.sampled_from([OF_NUMBERS, OF_TEXTS])


@settings(max_examples=30)
@given(seed=SEEDS, texts=TEXTS)
def test_final_sessions_are_those_of_the_oracle_however_late_rows_are(seed: int, texts: tuple[str, ...]) -> None:
    _check(seed, "final", on_time=False, crash=0.0, texts=texts)


@settings(max_examples=30)
@given(seed=SEEDS, texts=TEXTS)
@example(seed=64_999_265_459, texts=("count()",))  # given and taken back in one commit, at the end of the input
def test_updates_of_rows_on_time_come_to_the_sessions_of_the_oracle(seed: int, texts: tuple[str, ...]) -> None:
    _check(seed, "update", on_time=True, crash=0.0, texts=texts)


@settings(max_examples=30)
@given(seed=SEEDS, texts=TEXTS)
def test_crashes_change_nothing(seed: int, texts: tuple[str, ...]) -> None:
    _check(seed, "final", on_time=False, crash=0.2, texts=texts)
    _check(seed, "update", on_time=True, crash=0.2, texts=texts)


@settings(max_examples=30)
@given(seed=SEEDS, texts=TEXTS, emit=st.sampled_from(["update", "final"]), crash=st.sampled_from([0.0, 0.2]))
def test_early_results_come_to_the_sessions_of_the_oracle(
    seed: int, texts: tuple[str, ...], emit: str, crash: float
) -> None:
    _check(seed, emit, on_time=True, crash=crash, texts=texts, early=True)
