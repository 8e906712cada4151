"""Inputs that stop: with `advance_when_idle` event time goes on by the wall clock (semantics.md, section 1)."""

from __future__ import annotations

from typing import Any

import pytest

from millstream.topics.batch import MIN_TIME, Partition
from millstream.workers.app import App
from millstream.workers.driver import Driver
from tests.semantics.stage import (
    counted,
    counts,
    counts_app,
    fetch,
    key_in,
    late,
    opened,
    row,
    settled,
    source,
    two_inputs_app,
)

# out_of_order | idle_after | the clock | the watermark of a task whose input, at 5, was caught up at 0
REACHED = """
0   | 1000 | 999  | 5
0   | 1000 | 1000 | 5
0   | 1000 | 1005 | 5
0   | 1000 | 1006 | 6
0   | 1000 | 9000 | 8000
300 | 1000 | 9000 | 7700
300 | 1000 | 1300 | 0
300 | none | 9000 | -295
"""


@pytest.mark.parametrize("line", REACHED.strip().splitlines())
def test_the_watermark_goes_to_the_clock_less_what_could_still_come(line: str) -> None:
    """Wall clock minus `idle_after` minus `out_of_order`, and never back."""
    lag, idle, clock, expected = (part.strip() for part in line.split("|"))
    idle_after = None if idle == "none" else f"{idle}ms"
    task = opened(counts_app(out_of_order=f"{lag}ms", idle_after=idle_after), advance_when_idle=True)
    task.process(fetch("in", [row(5)]), 0)
    task.tick(int(clock))
    assert task.watermark == int(expected)


def test_nothing_of_it_without_the_setting() -> None:
    task = opened(counts_app(idle_after="1s"))
    task.process(fetch("in", [row(5)]), 0)
    task.tick(9_000)
    assert task.watermark == 5


def test_all_inputs_must_be_caught_up() -> None:
    task = opened(two_inputs_app(idle_after="1s"), advance_when_idle=True)
    task.process(fetch("one", [row(5)]), 0)
    task.tick(9_000)
    assert task.watermark == MIN_TIME, "nothing is known of the other"
    task.process(fetch("two", [row(7)], behind=1), 9_000)
    task.tick(20_000)
    assert task.watermark == 7, "the other lags"
    task.process(fetch("two", [row(8)], first=1), 20_000)
    task.tick(21_100)
    assert task.watermark == 20_100


def test_a_held_back_input_is_not_known_to_be_quiet() -> None:
    task = opened(counts_app(idle_after="1s"), advance_when_idle=True)
    task.process(fetch("in", [row(5)]), 0)
    task.inputs[Partition("in", 0)].time.held = True
    task.tick(9_000)
    assert task.watermark == 5


def test_never_during_a_replay() -> None:
    """The clock is far past the rows' times, as when a week is read again, and whatever pauses the reader makes."""
    task = opened(counts_app(idle_after="1s"), advance_when_idle=True)
    for number in range(5):
        now_ms = 1_000_000 + number * 100_000
        task.tick(now_ms)
        task.process(fetch("in", [row(number * 10)], first=number, behind=5 - number), now_ms)
        task.tick(now_ms + 50_000)
        assert task.watermark == number * 10


def test_the_last_window_of_a_quiet_stream_closes_and_that_is_committed_though_no_offset_moved() -> None:
    driver = Driver(_quiet(by="k"))
    driver.send("in", [row(5)])
    driver.commit()
    offsets = _offsets(driver)
    driver.advance_clock(2_000)
    driver.commit()
    assert counts(driver) == [("a", 0, 1)]
    assert _offsets(driver) == offsets
    driver.crash()
    driver.send("in", [row(6)])
    driver.end()
    assert counts(driver) == [("a", 0, 1)]
    assert late(driver) == [6], "the next owner knows that the window has closed"


def test_so_does_the_last_window_behind_a_repartition_topic() -> None:
    driver = Driver(_quiet(by="g", partitions=2))
    driver.send("in", [row(5), row(7, k=key_in(1))])
    driver.commit()
    assert counts(driver, "g") == []
    settled(driver, 2_000)
    assert counts(driver, "g") == [("b", 0, 2)]


def test_and_of_a_join_of_what_was_repartitioned_with_what_was_not() -> None:
    app = App("rules", advance_when_idle=True)
    left, right = (app.stream(source(app, name, key=key, idle_after="1s")) for name, key in (("l", "k"), ("r", "g")))
    left.interval_join(right, on="g", lower=0, upper="10ms", how="left").select("at", "at_right").to("out")
    driver = Driver(app)
    driver.send("l", [row(5)])
    driver.send("r", [row(3)])
    driver.commit()
    settled(driver, 2_000)
    assert driver.rows("out") == [{"at": 5, "at_right": None}]


def test_a_shard_upstream_that_is_not_quiet_holds_what_is_behind_it() -> None:
    driver = Driver(_quiet(by="g", partitions=2))
    driver.send("in", [row(5)], partition=0)
    driver.commit()
    driver.advance_clock(900)
    driver.send("in", [row(6)], partition=1)
    settled(driver, 600)
    assert counts(driver, "g") == []
    settled(driver, 500)
    assert counts(driver, "g") == [("b", 0, 2)]


def test_rows_go_on_after_the_pause() -> None:
    driver = Driver(_quiet(by="g", partitions=2))
    for at in (5, 25_000, 50_000):
        driver.send("in", [row(at), row(at + 1, k=key_in(1))])
        settled(driver, 20_000)
    driver.end()
    assert counts(driver, "g") == [("b", at, 2) for at in (0, 25_000, 50_000)]
    assert driver.instrument.total("late_rows") == 0


def _quiet(by: str, **options: Any) -> App:
    app = App("rules", advance_when_idle=True)
    counted(app.stream(source(app, idle_after="1s", **options)), by)
    return app


def _offsets(driver: Driver) -> list[int]:
    return [committed.offset for slot in driver._slots for committed in slot.committed.values()]
