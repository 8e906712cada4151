"""`every`: when results of open windows are given, with edges; what follows; what a restart gives again."""

from __future__ import annotations

import random
from typing import Any

import orjson
import polars as pl
import pytest

from millstream import App, Driver, run_batch, session, tumbling
from millstream.topics.batch import BEFORE, MAX_TIME, MIN_TIME, TIME
from millstream.topics.schema import Schema
from millstream.workers.early import EarlyResults
from millstream.workers.errors import PlanError
from millstream.workers.operators.session_aggregate import SessionAggregate
from millstream.workers.operators.window_aggregate import WindowAggregate
from millstream.workers.reducer import parse_reducer
from tests.workers.window_run import Counts, Event, batch_of

SCHEMA = Schema.of({"user": "string"})
COUNT = (("n", parse_reducer("count()")),)


def opened(step, restored=None):
    operator = step.build([SCHEMA])
    if restored is not None:
        operator.states[0].restore([], restored)
    operator.open(Counts(), MIN_TIME)
    return operator


def window_step(emit, every_ms=10, grace_ms=0):
    return WindowAggregate(tumbling(100), ("user",), COUNT, grace_ms, emit, every_ms=every_ms)


def rows(*times):
    return batch_of([Event(0, time, {"user": "a"}, MIN_TIME) for time in times], SCHEMA)


def counted(emits):
    return [(r["window_start"], r["n"]) for emit in emits for r in emit.batch.frame.to_dicts()]


@pytest.mark.parametrize(
    ("before", "watermark", "due"),
    [
        # A multiple of 10 that was not reached is.
        (0, 9, False),
        (9, 10, True),
        (9, 9, False),
        (10, 10, False),
        (10, 19, False),
        (10, 20, True),
        (19, 20, True),
        (5, 35, True),
        # Below zero too: -10, 0.
        (-11, -10, True),
        (-10, -1, False),
        (-1, 0, True),
        # The first watermark of all.
        (MIN_TIME, 5, True),
    ],
)
@pytest.mark.parametrize("emit", ["update", "final"])
def test_results_are_due_once_a_multiple_of_every_was_passed(emit, before, watermark, due):
    early = EarlyResults(emit, 10)
    assert early.take() is False
    early.advance(before, watermark)
    assert early.take() is due
    assert early.take() is False, "once"


@pytest.mark.parametrize(("emit", "given"), [("update", True), ("final", False)])
def test_without_every_each_commit_gives_them_or_none(emit, given):
    early = EarlyResults(emit, None)
    early.advance(0, 100)
    assert [early.take(), early.take()] == [given, given]


@pytest.mark.parametrize("emit", ["update", "final"])
def test_what_changed_is_given_at_the_first_commit_after(emit):
    operator = opened(window_step(emit))
    operator.process(rows(1, 2), 0)
    assert operator.flush() == (), "event time has not begun"
    operator.advance(9)
    assert counted(operator.flush()) == [(0, 2)]
    operator.process(rows(3), 0)
    operator.advance(9)
    assert operator.flush() == ()
    operator.advance(10)
    operator.process(rows(4), 0)
    assert counted(operator.flush()) == [(0, 4)], "as it is at the commit"
    operator.advance(90)
    assert operator.flush() == (), "nothing changed"


@pytest.mark.parametrize(("emit", "given"), [("update", []), ("final", [(0, 1)])])
def test_a_window_that_closes_unchanged_is_given_by_final_only(emit, given):
    operator = opened(window_step(emit))
    operator.process(rows(1), 0)
    operator.advance(50)
    assert counted(operator.flush()) == [(0, 1)]
    assert counted(operator.advance(100)) == given
    assert operator.flush() == ()


@pytest.mark.parametrize("emit", ["update", "final"])
def test_what_was_not_given_before_it_closed_is_given_then(emit):
    operator = opened(window_step(emit))
    operator.advance(0)
    operator.flush()
    operator.process(rows(1), 0)
    assert operator.flush() == ()
    assert counted(operator.advance(100)) == [(0, 1)]


def test_the_time_of_an_early_result_is_never_behind_what_was_passed_on():
    operator = opened(window_step("final", grace_ms=30))
    operator.process(rows(1), 0)
    operator.advance(129)
    (emit,) = operator.flush()
    (result,) = emit.batch.frame.to_dicts()
    assert (result[TIME], result[BEFORE]) == (99, 99)
    assert counted(operator.advance(130)) == [(0, 1)]


@pytest.mark.parametrize("emit", ["update", "final"])
def test_what_was_committed_and_not_given_is_given_after_a_restart(emit):
    first = opened(window_step(emit))
    first.advance(0)
    first.flush()
    first.process(rows(1), 0)
    assert first.flush() == ()
    committed = first.states[0].take_changes()
    again = opened(window_step(emit), committed)
    again.advance(10)
    assert counted(again.flush()) == [(0, 1)]
    closed_at_once = opened(window_step(emit), committed)
    assert counted(closed_at_once.advance(MAX_TIME)) == [(0, 1)]


def test_a_session_merged_away_is_taken_back_at_the_next_commit_and_its_heir_given_when_due():
    operator = opened(SessionAggregate(10, ("user",), COUNT, 100, "final", every_ms=50))
    operator.process(rows(20), 0)
    operator.advance(0)
    assert counted(operator.flush()) == [(20, 1)]
    operator.process(rows(15), 0)
    assert counted(operator.flush()) == [(20, None)]
    operator.advance(50)
    assert counted(operator.flush()) == [(15, 2)]
    assert counted(operator.advance(MAX_TIME)) == [(15, 2)]


def _totals(window, every, out_of_order="0s", **options):
    app = App("early")
    schema: dict[str, Any] = {"user": "string", "ts": "timestamp_ms"}
    clicks = app.stream(app.topic("clicks", schema, key="user", event_time="ts", out_of_order=out_of_order))
    return app, clicks.window(window, by="user", grace="0s", every=every, **options).agg(n=parse_reducer("count()"))


@pytest.mark.parametrize("emit", ["update", "final"])
def test_a_stream_gives_them_as_event_time_goes_on(emit):
    """Not as the clock does: it is the same however long the rows took to come."""
    app, totals = _totals(tumbling("10s"), "2s", emit=emit)
    totals.to("totals")
    driver = Driver(app)
    for ts in (0, 500, 1_999, 2_000, 2_100, 4_500, 10_000):
        driver.send("clicks", [{"user": "a", "ts": ts}])
        driver.advance_clock(60_000)
        driver.commit()
    given = [(row["window_start"], row["n"]) for row in driver.rows("totals")]
    assert given == [(0, 1), (0, 4), (0, 6), *([(0, 6)] if emit == "final" else []), (10_000, 1)]


def test_sessions_with_early_results_are_keyed_by_their_start_too():
    assert _totals(session("10s"), "1s", emit="final")[1].key == ("user", "window_start")
    assert _totals(session("10s"), None, emit="final")[1].key == ("user",)
    assert _totals(tumbling("10s"), "1s", emit="final")[1].key == ("user",)


@pytest.mark.parametrize("every", [0, "0s", "-1s"])
def test_every_must_be_longer_than_nothing(every):
    with pytest.raises(PlanError, match="every must be longer than 0"):
        _totals(tumbling("10s"), every)


def test_it_is_described_where_it_is_there():
    assert window_step("final", every_ms=1_000).describe() == {
        "window": "tumbling 100ms",
        "by": "user",
        "grace": "0s",
        "emit": "final",
        "every": "1s",
        "n": "count()",
    }


ROWS = [{"user": f"u{i % 3}", "ts": i * 700 % 9_000 + i * 100 - 3_000} for i in range(60)]


def _latest(rows):
    return {(row["user"], row["window_start"]): (row["window_end"], row["n"]) for row in rows}


@pytest.mark.parametrize("window", [tumbling("4s"), session("500ms")], ids=["tumbling", "session"])
@pytest.mark.parametrize("seed", range(5))
def test_the_last_result_of_a_window_is_what_a_bounded_run_without_every_gives(window, seed):
    expected = _bounded(window, None)
    assert _bounded(window, "1s") == expected
    app, totals = _totals(window, "1s", out_of_order="20s", emit="final")
    totals.to("totals")
    rng, driver, at = random.Random(seed), Driver(app), 0
    while at < len(ROWS):
        size = rng.randrange(1, 9)
        driver.send("clicks", ROWS[at : at + size])
        at += size
        rng.choice([driver.process, driver.commit, driver.checkpoint])()
        if rng.random() < 0.3:
            driver.crash()
    driver.end()
    table: dict[Any, Any] = {}
    for record in driver.records("totals"):
        if record.value is None:
            table.pop(tuple(orjson.loads(record.key or b"")), None)
        else:
            table.update(_latest([orjson.loads(record.value)]))
    assert table == expected


def _bounded(window, every):
    app, totals = _totals(window, every, out_of_order="20s", emit="final")
    totals.to("totals")
    return _latest(run_batch(app, {"clicks": pl.DataFrame(ROWS)})["totals"].to_dicts())
