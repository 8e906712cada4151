"""Cumulative windows: edges as a table, lateness window by window, a stream and a bounded run. The oracle is with the others."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import polars as pl
import pytest

from millstream import App, Driver, cumulative, run_batch
from millstream.topics.batch import MAX_TIME, MIN_TIME
from millstream.topics.schema import Schema
from millstream.workers.errors import PlanError
from millstream.workers.operators.window_aggregate import WindowAggregate
from millstream.workers.reducer import parse_reducer
from tests.oracles.windows import CumulativeOracle
from tests.workers.window_run import Counts, Event, batch_of

SCHEMA = Schema.of({"user": "string", "n": "int"})
COUNT = (("n", parse_reducer("count()")),)


def opened(window, grace_ms=0, emit="final"):
    operator, context = WindowAggregate(window, ("user",), COUNT, grace_ms, emit).build([SCHEMA]), Counts()
    operator.open(context, MIN_TIME)
    return operator, context


def row(time, before=MIN_TIME, user="a"):
    return Event(0, time, {"user": user, "n": 1}, before)


def counted(emits):
    rows = [r for emit in emits if emit.output == 0 for r in emit.batch.frame.to_dicts()]
    return [(r["window_start"], r["window_end"], r["n"]) for r in rows]


@pytest.mark.parametrize(
    ("window", "time", "windows"),
    [
        # Every [0, k * 10) whose end is after the time: a row at an end is not in that window.
        (cumulative(30, 10), 0, [(0, 10), (0, 20), (0, 30)]),
        (cumulative(30, 10), 9, [(0, 10), (0, 20), (0, 30)]),
        (cumulative(30, 10), 10, [(0, 20), (0, 30)]),
        (cumulative(30, 10), 19, [(0, 20), (0, 30)]),
        (cumulative(30, 10), 20, [(0, 30)]),
        (cumulative(30, 10), 29, [(0, 30)]),
        # The end of the size begins the next period.
        (cumulative(30, 10), 30, [(30, 40), (30, 50), (30, 60)]),
        # Below zero by floor division.
        (cumulative(30, 10), -1, [(-30, 0)]),
        (cumulative(30, 10), -10, [(-30, 0)]),
        (cumulative(30, 10), -11, [(-30, -10), (-30, 0)]),
        (cumulative(30, 10), -30, [(-30, -20), (-30, -10), (-30, 0)]),
        (cumulative(30, 10), -31, [(-60, -30)]),
        # The offset moves periods and steps.
        (cumulative(20, 10, offset=3), 2, [(-17, 3)]),
        (cumulative(20, 10, offset=3), 3, [(3, 13), (3, 23)]),
        (cumulative(20, 10, offset=3), 13, [(3, 23)]),
        (cumulative(20, 10, offset=-7), 13, [(13, 23), (13, 33)]),
        # A step as long as the size: tumbling.
        (cumulative(10, 10), 10, [(10, 20)]),
    ],
)
def test_a_time_is_in_these_windows(window, time, windows):
    rows, ends = window.assign(np.array([time]))
    assert sorted(zip(window.starts(ends).tolist(), ends.tolist(), strict=True)) == windows
    assert rows is None or rows.tolist() == [0] * len(windows)


def test_rows_of_several_times_ascend():
    rows, ends = cumulative(20, 10).assign(np.array([10, 0, -1]))
    assert rows is not None
    assert rows.tolist() == [0, 1, 1, 2]
    assert ends.tolist() == [20, 20, 10, 0]


@pytest.mark.parametrize(
    ("watermark", "closed"),
    [
        (14, []),
        (15, [(0, 10, 1)]),
        (24, [(0, 10, 1)]),
        (25, [(0, 10, 1), (0, 20, 2)]),
        (34, [(0, 10, 1), (0, 20, 2)]),
        (35, [(0, 10, 1), (0, 20, 2), (0, 30, 2)]),
    ],
)
def test_each_window_closes_by_its_own_end(watermark, closed):
    """One without rows of its own repeats what came before."""
    operator, _ = opened(cumulative(30, 10), grace_ms=5)
    operator.process(batch_of([row(9), row(10)], SCHEMA), 0)
    everything = [(0, 10, 1), (0, 20, 2), (0, 30, 2)]
    assert counted(operator.advance(watermark)) == closed
    assert counted(operator.advance(MAX_TIME)) == everything[len(closed) :]


@pytest.mark.parametrize(
    ("before", "windows", "counts"),
    [
        (9, [(0, 10, 1), (0, 20, 1)], {}),
        (10, [(0, 20, 1)], {"late_window_rows": 1}),
        (19, [(0, 20, 1)], {"late_window_rows": 1}),
        (20, [], {"late_window_rows": 2, "late_rows": 1}),
    ],
)
def test_a_row_late_for_one_window_counts_in_the_longer_ones(before, windows, counts):
    operator, context = opened(cumulative(20, 10), emit="update")
    late = operator.process(batch_of([row(5, before)], SCHEMA), 0)
    assert sorted(counted(operator.flush())) == windows
    assert context.counts == counts
    reasons = [r["late_reason"] for emit in late for r in emit.batch.frame.to_dicts()]
    told = "its last window ended at 20 and closed at 20, the watermark of its partition was 20"
    assert reasons == ([told] if not windows else [])


@pytest.mark.parametrize(
    ("size", "step", "message"),
    [
        ("10s", "3s", "cumulative: the size (10s) must be a multiple of the step (3s), such as 9s or 12s"),
        ("2s", "3s", "cumulative: the size (2s) must be a multiple of the step (3s), such as 3s"),
        (0, 1, "size must be longer than 0"),
        (1, 0, "step must be longer than 0"),
        (-10, -5, "size must be longer than 0"),
        ("1d", "1ms", "put each row in 86400000 windows (at most 10000); choose a longer step"),
    ],
)
def test_windows_that_are_refused(size, step, message):
    with pytest.raises(PlanError) as refused:
        cumulative(size, step)
    assert message in str(refused.value)


def test_ten_thousand_windows_a_row_are_taken():
    assert cumulative(10_000, 1).windows_a_row_max == 10_000


def test_it_is_a_value_that_says_what_it_is():
    assert cumulative("1h", "10m") == cumulative(3_600_000, 600_000)
    assert cumulative("1h", "10m").describe() == "cumulative 1h, step 10m"
    assert cumulative("1d", "1h", offset="-2h").describe() == "cumulative 1d, step 1h, offset -2h"


CLICKS: dict[str, Any] = {"user": "string", "ts": "timestamp_ms", "n": "int"}
ROWS: list[dict[str, Any]] = [{"user": f"u{i % 3}", "ts": i * 700 % 9_000 + i * 100 - 3_000, "n": i} for i in range(60)]


def _app():
    app = App("cumulative")
    clicks = app.topic("clicks", CLICKS, key="user", event_time="ts", out_of_order="1m")
    windows = app.stream(clicks).window(cumulative("6s", "2s"), by="user", grace="0s", emit="final")
    windows.agg(n=parse_reducer("count()"), total=parse_reducer("sum(n)")).to("totals")
    return app


def _table(rows):
    return sorted((r["user"], r["window_start"], r["window_end"], r["n"], r["total"]) for r in rows)


def _expected():
    oracle = CumulativeOracle(6_000, 2_000, 0, 0)
    for one in ROWS:
        oracle.row(one["user"], one["ts"], MIN_TIME, one["n"])
    return sorted((user, *name, len(rows), sum(n for _, n in rows)) for (user, name), rows in oracle.rows.items())


def test_a_bounded_run_gives_what_the_oracle_says():
    frame = pl.DataFrame(ROWS).with_columns(pl.col("ts").cast(pl.Int64))
    assert _table(run_batch(_app(), {"clicks": frame})["totals"].to_dicts()) == _expected()


@pytest.mark.parametrize("seed", range(10))
def test_a_stream_cut_anywhere_and_crashed_after_any_commit_gives_the_same(seed):
    rng, driver, at = random.Random(seed), Driver(_app()), 0
    while at < len(ROWS):
        size = rng.randrange(1, 9)
        driver.send("clicks", ROWS[at : at + size])
        at += size
        rng.choice([driver.process, driver.commit, driver.checkpoint])()
        if rng.random() < 0.4:
            driver.crash()
    driver.end()
    assert _table(driver.rows("totals")) == _expected()
