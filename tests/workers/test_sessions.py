"""Session windows: the rules with edges, as tables; what updates take back; several partitions."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.state.session_clusters import Spans, clustered
from millstream.topics.batch import BEFORE, DELETED, MAX_TIME, MIN_TIME, OFFSET, TIME
from millstream.topics.schema import Schema
from millstream.workers.errors import PlanError
from millstream.workers.operators.session_aggregate import SessionAggregate, SessionOperator
from millstream.workers.reducer import parse_reducer
from millstream.workers.windows.session import session
from tests.workers.window_run import Counts, Event, WindowRun, batch_of

SCHEMA = Schema.of({"user": "string"})
COUNT = (("n", parse_reducer("count()")),)


def opened(gap=10, grace_ms=0, emit="final") -> tuple[SessionOperator, Counts]:
    operator, context = SessionAggregate(gap, ("user",), COUNT, grace_ms, emit).build([SCHEMA]), Counts()
    operator.open(context, MIN_TIME)
    return operator, context


def row(time, before=MIN_TIME, user="a", partition=0) -> Event:
    return Event(partition, time, {"user": user}, before)


def rows_of(emits, output=0) -> list[dict[str, Any]]:
    return [r for emit in emits if emit.output == output for r in emit.batch.frame.to_dicts()]


def given_as(emits) -> list[tuple[Any, ...]]:
    """(start, end, n), or (start, "gone")."""
    return [
        (r["window_start"], "gone") if r.get(DELETED) else (r["window_start"], r["window_end"], r["n"])
        for r in rows_of(emits)
    ]


@pytest.mark.parametrize(
    ("times", "sessions"),
    [
        # Gap 10, strict: 9 apart is one session, 10 apart are two.
        ([0], [(0, 10, 1)]),
        ([0, 9], [(0, 19, 2)]),
        ([0, 10], [(0, 10, 1), (10, 20, 1)]),
        ([9, 0], [(0, 19, 2)]),
        ([10, 0], [(0, 10, 1), (10, 20, 1)]),
        ([0, 0, 0], [(0, 10, 3)]),
        ([-1, -10, -11], [(-11, 9, 3)]),
        # A row between merges two; one that reaches only one of them does not.
        ([0, 18, 9], [(0, 28, 3)]),
        ([0, 19, 9], [(0, 19, 2), (19, 29, 1)]),
        ([0, 19, 10], [(0, 10, 1), (10, 29, 2)]),
        ([0, 20, 40, 10, 30], [(t, t + 10, 1) for t in (0, 10, 20, 30, 40)]),
        ([0, 16, 32, 8, 24], [(0, 42, 5)]),
        # Far apart: beyond what is sorted as one number.
        (
            [0, 1 << 45, (1 << 45) + 9, -(1 << 45)],
            [(-(1 << 45), -(1 << 45) + 10, 1), (0, 10, 1), (1 << 45, (1 << 45) + 19, 2)],
        ),
    ],
)
@pytest.mark.parametrize("batch_rows", [1, 2, 9])
@pytest.mark.parametrize("emit", ["final", "update"])
def test_these_times_make_these_sessions(times, sessions, batch_rows, emit):
    operator, _ = opened(emit=emit)
    for first in range(0, len(times), batch_rows):
        operator.process(batch_of([row(time) for time in times[first : first + batch_rows]], SCHEMA), 0)
    assert given_as(operator.advance(MAX_TIME)) == sessions


@pytest.mark.parametrize(
    ("before", "time", "grace", "sessions"),
    [
        # A row at 0 is late from W = end + grace on: its own session would end at 10.
        (9, 0, 0, [(0, 10, 1), (20, 30, 1)]),
        (10, 0, 0, [(20, 30, 1)]),
        (14, 0, 5, [(0, 10, 1), (20, 30, 1)]),
        (15, 0, 5, [(20, 30, 1)]),
        # What counts is the merged session: the one at 20 ends at 30 and takes a row as old as 11, until W = 30 + grace.
        (29, 11, 0, [(11, 30, 2)]),
        (29, 10, 0, [(20, 30, 1)]),
        (34, 11, 5, [(11, 30, 2)]),
        (30, 11, 0, [(20, 30, 1)]),
        (35, 11, 5, [(20, 30, 1)]),
    ],
)
def test_lateness_is_judged_for_the_merged_session(before, time, grace, sessions):
    operator, context = opened(grace_ms=grace)
    operator.process(batch_of([row(20)], SCHEMA), 0)
    late = operator.process(batch_of([row(time, before)], SCHEMA), 0)
    assert given_as(operator.advance(MAX_TIME)) == sessions
    is_late = sum(n for _, _, n in sessions) == 1
    assert context.counts == ({"late_rows": 1, "late_window_rows": 1} if is_late else {})
    assert [r["late_reason"] for r in rows_of(late, 1)] == (
        [
            f"no open session reaches it and its own closed at {time + 10 + grace}, "
            f"the watermark of its partition was {before}"
        ]
        if is_late
        else []
    )


def test_a_session_closed_for_a_row_takes_no_part_of_it_even_before_it_is_given():
    """Gap 10. At W = 12 the session of 0 is over for its partition, and 5 begins another, less than a gap away from it."""
    operator, _ = opened()
    for time, before in [(0, MIN_TIME), (5, 12), (13, 12)]:
        assert operator.process(batch_of([row(time, before)], SCHEMA), 0) == []
    assert given_as(operator.advance(MAX_TIME)) == [(0, 10, 1), (5, 23, 2)]


def test_a_slower_partition_may_still_join_what_is_closed_for_a_faster_one():
    operator, _ = opened()
    for time, before in [(0, MIN_TIME), (5, 12), (9, -3)]:
        operator.process(batch_of([row(time, before)], SCHEMA), 0)
    assert given_as(operator.advance(MAX_TIME)) == [(0, 19, 3)]


def test_of_two_sessions_that_come_to_the_same_start_the_older_is_given_at_once():
    operator, _ = opened()
    rows = [(0, MIN_TIME), (8, MIN_TIME), (9, 18), (1, 18)]
    assert operator.process(batch_of([row(time, before) for time, before in rows], SCHEMA), 0) == []
    assert given_as(operator.process(batch_of([row(0, 18)], SCHEMA), 0)) == [(0, 18, 2)]
    assert given_as(operator.advance(MAX_TIME)) == [(0, 19, 3)]


def test_a_row_of_a_partition_that_slept_is_counted_apart():
    operator, context = opened()
    operator.advance(50)
    (late,) = rows_of(operator.process(batch_of([row(40, before=3)], SCHEMA), 0), 1)
    assert context.counts == {"late_rows.partition_woke": 1, "late_window_rows": 1}
    assert late["late_reason"].endswith("its partition slept, and the task's watermark was 50")


@pytest.mark.parametrize(
    ("watermark", "closed"), [(14, []), (15, [(0, 10, 1)]), (24, [(0, 10, 1)]), (25, [(0, 10, 1), (10, 20, 1)])]
)
def test_a_session_is_given_once_its_end_and_grace_have_passed(watermark, closed):
    operator, _ = opened(grace_ms=5)
    operator.process(batch_of([row(10), row(0)], SCHEMA), 0)
    assert operator.flush() == ()
    results = operator.advance(watermark)
    assert given_as(results) == closed
    assert [(r[TIME], r[BEFORE], r[OFFSET]) for r in rows_of(results)] == [(e - 1, MIN_TIME, -1) for _, e, _ in closed]


@pytest.mark.parametrize(
    ("commits", "given"),
    [
        # Each list is a commit: what arrives, and what is given.
        ([[0], [5], []], [[(0, 10, 1)], [(0, 15, 2)], []]),
        # A row before the start: the old name is taken back.
        ([[9], [0]], [[(9, 19, 1)], [(9, "gone"), (0, 19, 2)]]),
        # What was never given is never taken back.
        ([[9, 0]], [[(0, 19, 2)]]),
        # Two become one: the second name is gone; the first is an upsert, not both.
        ([[0, 18], [9]], [[(0, 10, 1), (18, 28, 1)], [(18, "gone"), (0, 28, 3)]]),
        # Both lose their names.
        ([[5, 23], [0, 14]], [[(5, 15, 1), (23, 33, 1)], [(5, "gone"), (23, "gone"), (0, 33, 4)]]),
        # Renamed twice in one commit: only what was given is taken back.
        ([[18], [9, 0]], [[(18, 28, 1)], [(18, "gone"), (0, 28, 3)]]),
    ],
)
@pytest.mark.parametrize("one_by_one", [False, True])
def test_updates_upsert_what_changed_and_take_back_names_that_are_no_more(commits, given, one_by_one):
    operator, _ = opened(emit="update")
    for times, expected in zip(commits, given, strict=True):
        for batch in [[time] for time in times] if one_by_one else [times] if times else []:
            operator.process(batch_of([row(time) for time in batch], SCHEMA), 0)
        got = operator.flush()
        assert sorted(given_as(got), key=str) == sorted(expected, key=str)
        assert all(r["n"] is None for r in rows_of(got) if r.get(DELETED))
    assert operator.advance(MAX_TIME) == [], "nothing changed since it was given"


def test_changelog_and_database_follow_the_names():
    """A name that is gone is deleted where it is known, and only there."""
    operator, _ = opened(emit="update")
    state = operator.state

    def keys(changes):
        return [
            (k[8:], v is None) for c in changes for k, v in zip(c.keys.to_pylist(), c.values.to_pylist(), strict=True)
        ]

    operator.process(batch_of([row(9)], SCHEMA), 0)
    operator.flush()
    assert keys(state.take_changes()) == [(b"a", False)]
    operator.process(batch_of([row(0)], SCHEMA), 0)
    operator.flush()
    assert keys(state.take_changes()) == [(b"a", True), (b"a", False)]
    write = state.take_checkpoint()
    assert keys(write.changes) == [(b"a", False)], "the first name never came to the database"
    operator.advance(MAX_TIME)
    assert keys(state.take_changes())[1:] == [(b"a", True)]
    assert keys(state.take_checkpoint().changes)[1:] == [(b"a", True)]
    assert state.sessions_open == 0


@pytest.mark.parametrize("emit", ["final", "update"])
@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 40))
def test_rows_on_time_make_the_same_sessions_however_partitions_are_interleaved(emit, seed):
    """Several partitions, the task's watermark the smallest, crashes: the sessions of all rows, sorted by time."""
    rng = random.Random(seed)
    grace, out_of_order, partitions = rng.choice([0, 5]), rng.choice([0, 7]), rng.choice([2, 3])
    own, clocks, task = [MIN_TIME] * partitions, [0] * partitions, MIN_TIME
    log: list[Any] = []
    for _ in range(rng.randrange(1, 25)):
        partition, rows = rng.randrange(partitions), []
        for _ in range(rng.choice([1, 6])):
            clocks[partition] += rng.choice([0, 1, 4, 30])
            time = max(clocks[partition] - rng.randrange(12), own[partition] - grace)
            rows.append(row(time, own[partition], rng.choice("ab"), partition))
            own[partition] = max(own[partition], time - out_of_order)
        log.append(rows)
        task = max(task, min(own))
        log.append(task)
    step = SessionAggregate(10, ("user",), COUNT, grace, emit)  # type: ignore[arg-type]
    run = WindowRun(step, SCHEMA, rng, crash=0.1).run(log)
    table: dict[Any, Any] = {}
    for result in [result for commit in run.rows for result in commit]:
        name = result["user"], result["window_start"]
        if result.get(DELETED):
            del table[name]
        else:
            assert emit == "update" or name not in table
            table[name] = result["window_end"], result["n"]
    assert table == _sessions([event for entry in log if isinstance(entry, list) for event in entry], 10)
    assert run.context.counts == {}


def _sessions(events: list[Event], gap: int) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for user in {event.values["user"] for event in events}:
        start = last = None
        for time in sorted(event.time for event in events if event.values["user"] == user):
            if last is None or time - last >= gap:
                start = time
            last = time
            found[user, start] = time + gap, found.get((user, start), (0, 0))[1] + 1
    return found


@given(
    spans=st.lists(st.tuples(st.integers(0, 3), st.integers(-30, 30), st.integers(0, 5)), max_size=20),
    far=st.booleans(),
)
def test_clusters_are_the_same_by_one_number_and_by_ranks(spans, *, far):
    """Times that span more than 8.7 years are clustered another way."""
    code, first, length = (np.array([span[i] for span in spans], np.int64) for i in range(3))
    near = clustered(Spans(code, first, first + length), 4)
    stretch = Spans(
        *(np.append(column, value) for column, value in ((code, 9), (first, 1 << 50), (first + length, 1 << 50)))
    )
    other = clustered(stretch if far else Spans(code, first, first + length), 4)
    size = len(near.spans)
    for name in ("code", "first", "last"):
        assert getattr(other.spans, name)[:size].tolist() == getattr(near.spans, name).tolist()
    assert other.of[: len(spans)].tolist() == near.of.tolist()


def test_sessions_are_values_that_say_what_they_are():
    assert session("30m") == session(1_800_000)
    assert session("30m").name == "session"
    assert session("30m").describe() == "session 30m"
    assert session("1s").aggregate(("user",), COUNT, 5, "final") == SessionAggregate(
        1_000, ("user",), COUNT, 5, "final"
    )
    with pytest.raises(PlanError, match="gap must be longer than 0, got 0s"):
        session(0)
