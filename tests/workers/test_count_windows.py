"""Count windows: edges as a table; an oracle over any cuts, commits and crashes; a bounded run and a stream."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream import App, Driver, count_window, run_batch, tumbling
from millstream.topics.batch import BEFORE, MAX_TIME, MIN_TIME, OFFSET, TIME
from millstream.topics.schema import Schema
from millstream.workers.errors import PlanError
from millstream.workers.operators.count_aggregate import CountAggregate
from millstream.workers.reducer import parse_reducer
from tests.oracles.windows import REDUCERS
from tests.workers.window_run import Counts, Disk, Event, batch_of, compacted

SCHEMA = Schema.of({"user": "string", "n": "int", "page": "string"})
TEXTS = ("count()", "sum(n)", "min(n)", "last(n)", "collect(page)", "count_distinct(page)")


def step_of(rows, texts=("count()",), partial=False, by=("user",)):
    return CountAggregate(rows, by, tuple((f"a{i}", parse_reducer(text)) for i, text in enumerate(texts)), partial)


def opened(step):
    operator, context = step.build([SCHEMA]), Counts()
    operator.open(context, MIN_TIME)
    return operator, context


def event(user, time=0, n: int | None = 1, page: str | None = "p"):
    return Event(0, time, {"user": user, "n": n, "page": page}, MIN_TIME)


def rows_of(emits):
    return [r for emit in emits for r in emit.batch.frame.to_dicts()]


def counted(emits):
    return [(r["user"], r["window_ordinal"], r["a0"]) for r in rows_of(emits)]


@pytest.mark.parametrize(
    ("rows", "users", "full", "partial"),
    [
        (3, "aa", [], [("a", 0, 2)]),
        (3, "aaa", [("a", 0, 3)], []),
        (3, "aaaa", [("a", 0, 3)], [("a", 1, 1)]),
        (3, "aaaaaa", [("a", 0, 3), ("a", 1, 3)], []),
        # In the order in which they became full, not in that in which they began.
        (2, "abba", [("b", 0, 2), ("a", 0, 2)], []),
        (2, "abababa", [("a", 0, 2), ("b", 0, 2), ("a", 1, 2)], [("b", 1, 1)]),
        (1, "aab", [("a", 0, 1), ("a", 1, 1), ("b", 0, 1)], []),
    ],
)
@pytest.mark.parametrize("batch_rows", [1, 2, 3, 100])
def test_these_rows_make_these_windows(rows, users, full, partial, batch_rows):
    operator, _ = opened(step_of(rows, partial=True))
    given: list[Any] = []
    for first in range(0, len(users), batch_rows):
        given += counted(operator.process(batch_of([event(u) for u in users[first : first + batch_rows]], SCHEMA), 0))
    assert given == full
    assert operator.flush() == ()
    assert counted(operator.advance(MAX_TIME // 4)) == []
    assert sorted(counted(operator.advance(MAX_TIME))) == partial


def test_without_partial_nothing_is_given_at_the_end_and_the_window_stays_open():
    operator, _ = opened(step_of(2))
    operator.process(batch_of([event("a")], SCHEMA), 0)
    assert operator.advance(MAX_TIME) == ()
    assert counted(operator.process(batch_of([event("a")], SCHEMA), 0)) == [("a", 0, 2)]


def test_what_goes_on_after_a_partial_one_has_the_next_ordinal():
    operator, _ = opened(step_of(2, partial=True))
    operator.process(batch_of([event("a")], SCHEMA), 0)
    assert counted(operator.advance(MAX_TIME)) == [("a", 0, 1)]
    assert operator.advance(MAX_TIME) == ()
    assert counted(operator.process(batch_of([event("a"), event("a")], SCHEMA), 0)) == [("a", 1, 2)]


def test_the_end_lowered_by_the_steps_before_is_the_end():
    operator, _ = opened(step_of(2, partial=True))
    operator.process(batch_of([event("a")], SCHEMA), 0)
    assert counted(operator.advance(MAX_TIME - 86_400_000)) == [("a", 0, 1)]


@pytest.mark.parametrize(
    ("times", "watermark", "time"),
    [([5, 9], MIN_TIME, 9), ([9, 5], MIN_TIME, 9), ([-9, -5], MIN_TIME, -5), ([5, 9], 9, 9), ([5, 9], 20, 20)],
)
def test_the_time_of_a_result_is_the_largest_of_its_rows_and_not_behind_the_watermark(times, watermark, time):
    operator, _ = opened(step_of(2))
    operator.process(batch_of([event("a", times[0])], SCHEMA), 0)
    operator.advance(watermark)
    (result,) = rows_of(operator.process(batch_of([event("a", times[1])], SCHEMA), 0))
    assert (result[TIME], result[BEFORE], result[OFFSET]) == (time, watermark, -1)
    operator.process(batch_of([event("a", 30)], SCHEMA), 0)
    (result,) = rows_of(operator.process(batch_of([event("a", 25)], SCHEMA), 0))
    assert result[TIME] == 30, "times of the window before are forgotten"


def test_what_does_not_fit_and_what_has_no_key_is_rejected():
    operator, context = opened(step_of(2, ("sum(n)",)))
    big = (1 << 63) - 1
    given = operator.process(batch_of([event("a", n=big), event(None), event("a", n=big), event("a")], SCHEMA), 0)
    assert given == []
    assert [reason for _, reason in context.rejected] == [
        "key column 'user' is null",
        "window count 2: an integer sum is beyond 64 bits; sum a float column",
    ]
    (result,) = rows_of(operator.process(batch_of([event("a")], SCHEMA), 0))
    assert (result["window_ordinal"], result["a0"]) == (1, 2)


def _events(rng: random.Random) -> list[Event]:
    users = ["a", "b", "", "é"][: rng.randrange(1, 5)]
    return [
        event(rng.choice(users), rng.randrange(-50, 50), rng.choice([None, 1, -7]), rng.choice([None, "x", "y"]))
        for _ in range(rng.randrange(0, 120))
    ]


def _expected(step: CountAggregate, events: list[Event]) -> list[Any]:
    by_user: dict[str, list[Event]] = {}
    for one in events:
        by_user.setdefault(one.values["user"], []).append(one)
    given = []
    for user, mine in by_user.items():
        for ordinal, first in enumerate(range(0, len(mine), step.rows)):
            window = mine[first : first + step.rows]
            if len(window) == step.rows or step.partial:
                given.append((user, ordinal, [_reduced(reducer, window) for _, reducer in step.aggregates]))
    return sorted(given)


def _reduced(reducer, window):
    if reducer.column is None:
        return len(window)
    return REDUCERS[reducer.name]([(one.time, one.values[reducer.column]) for one in window])


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 40), crash=st.sampled_from([0.0, 0.3]))
def test_windows_are_those_of_the_oracle_over_any_cuts_and_crashes(seed: int, crash: float) -> None:
    rng = random.Random(seed)
    step = step_of(rng.randrange(1, 9), TEXTS, partial=rng.random() < 0.5)
    events, disk, changelog = _events(rng), Disk(), []
    operator, _ = opened(step)
    at = saved = 0
    given: list[Any] = []
    pending: list[Any] = []
    while True:
        size = rng.choice([1, 3, 50])
        part = events[at : at + size]
        pending += rows_of(operator.process(batch_of(part, SCHEMA), 0)) if part else rows_of(operator.advance(MAX_TIME))
        at += size
        if rng.random() < 0.4 or not part:
            changelog.append(operator.state.take_changes())
            given, pending, saved = given + pending, [], at
            if rng.random() < 0.4:
                disk.write(operator.state.take_checkpoint(), len(changelog))
        if not part:
            break
        if rng.random() < crash:
            at, pending = saved, []
            tail = [changes for commit in changelog[disk.position :] for changes in commit]
            operator = step.build([SCHEMA])
            operator.state.restore(disk.stored(rng.choice([1, 1000])), compacted(tail) if rng.random() < 0.5 else tail)
            operator.open(Counts(), MIN_TIME)
    got = [(r["user"], r["window_ordinal"], [r[name] for name, _ in step.aggregates]) for r in given]
    assert sorted(got) == _expected(step, events)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: count_window(0), "count: n must be a whole number from 1 to 1000000000, got 0"),
        (lambda: count_window(-1), "got -1"),
        (lambda: count_window(True), "got True"),
        (lambda: count_window(1_000_000_001), "got 1000000001"),
        (lambda: _app(count_window(2), grace="5s"), "window count 2: grace=5s is of event time"),
        (lambda: _app(count_window(2), every="1s"), "window count 2: every=1s is of event time"),
        (lambda: _app(count_window(2, partial=True), late_to="late"), "window count 2, partial: no row is ever late"),
        (
            lambda: step_of(2, by=()).output_schemas([SCHEMA]),
            "window count 2: windows are by key, so by= needs a column",
        ),
        (lambda: step_of(2, ("sum(m)",)).output_schemas([SCHEMA]), "sum names no column 'm'"),
    ],
)
def test_what_is_refused(made, message):
    with pytest.raises(PlanError) as refused:
        made()
    assert message in str(refused.value)


def test_it_is_a_value_that_says_what_it_is():
    assert count_window(2) == count_window(2, partial=False)
    assert count_window(2).describe() == "count 2"
    assert count_window(2, partial=True).describe() == "count 2, partial"
    assert step_of(2, partial=True).describe() == {
        "window": "count 2",
        "by": "user",
        "partial": "at the end",
        "a0": "count()",
    }
    (schema,) = step_of(2).output_schemas([SCHEMA])
    assert schema == Schema.of({"user": "string", "window_ordinal": "int", "a0": "int"})


def test_a_key_with_many_windows_in_a_batch():
    operator, _ = opened(step_of(2, ("sum(n)",)))
    given = rows_of(operator.process(batch_of([event("a", n=i) for i in range(10_001)], SCHEMA), 0))
    assert [r["a0"] for r in given] == [4 * i + 1 for i in range(5_000)]
    assert np.diff([r["window_ordinal"] for r in given]).tolist() == [1] * 4_999


CLICKS: dict[str, Any] = {"user": "string", "ts": "timestamp_ms", "n": "int"}
ROWS: list[dict[str, Any]] = [{"user": f"u{i % 3}", "ts": i * 700 % 9_000, "n": i} for i in range(50)]


def _app(window, **options):
    app = App("counted")
    clicks = app.stream(app.topic("clicks", CLICKS, key="user", event_time="ts", out_of_order="1m"))
    clicks.window(window, by="user", **options).agg(total=parse_reducer("sum(n)")).to("totals")
    return app


def _table(rows):
    return sorted((r["user"], r["window_ordinal"], r["total"]) for r in rows)


def _expected_totals():
    by_user: dict[str, list[int]] = {}
    for one in ROWS:
        by_user.setdefault(one["user"], []).append(one["n"])
    return sorted((u, i // 4, sum(ns[i : i + 4])) for u, ns in by_user.items() for i in range(0, len(ns), 4))


def test_a_bounded_run_counts_rows_as_they_stand():
    given = run_batch(_app(count_window(4, partial=True)), {"clicks": pl.DataFrame(ROWS)})["totals"]
    assert _table(given.to_dicts()) == _expected_totals()


@pytest.mark.parametrize("seed", range(10))
def test_a_stream_of_the_same_order_cut_anywhere_and_crashed_gives_the_same(seed):
    rng, driver, at = random.Random(seed), Driver(_app(count_window(4, partial=True))), 0
    while at < len(ROWS):
        size = rng.randrange(1, 9)
        driver.send("clicks", ROWS[at : at + size])
        at += size
        rng.choice([driver.process, driver.commit, driver.checkpoint])()
        if rng.random() < 0.4:
            driver.crash()
    driver.end()
    assert _table(driver.rows("totals")) == _expected_totals()


def test_partial_ones_behind_windows_with_grace():
    app = App("behind")
    clicks = app.stream(app.topic("clicks", CLICKS, key="user", event_time="ts"))
    sums = clicks.window(tumbling("1s"), by="user", grace="5s", emit="final").agg(n=parse_reducer("count()"))
    sums.window(count_window(100, partial=True), by="user").agg(windows=parse_reducer("count()")).to("totals")
    driver = Driver(app)
    driver.send("clicks", [{"user": "a", "ts": ts, "n": 1} for ts in (0, 1_000, 1_500)])
    driver.end()
    assert driver.rows("totals") == [{"user": "a", "window_ordinal": 0, "windows": 2}]
