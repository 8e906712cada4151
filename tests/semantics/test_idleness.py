"""Idle is a partition that is caught up for `idle_after`, and no other (semantics.md, section 1)."""

from __future__ import annotations

import pytest

from millstream.topics.batch import MIN_TIME, Partition
from millstream.topics.broker import Committed
from millstream.workers.driver import Driver
from millstream.workers.task import Task
from tests.semantics.stage import counts, fetch, late, opened, row, settled, two_inputs_app

ONE, TWO = Partition("one", 0), Partition("two", 0)


def _task(idle_after: str | None = "1s") -> Task:
    """`two` has a row at 100 and more to be read; of `one` nothing is known."""
    task = opened(two_inputs_app(idle_after=idle_after))
    task.process(fetch("two", [row(100)], behind=1), 0)
    return task


# when (ms) `one` was fetched and how many records were left behind that | asked at | watermark: held, or of `two` alone
CASES = """
               | 5000 | held
0:0            | 999  | held
0:0            | 1000 | free
0:3            | 5000 | held
0:3 4000:0     | 4999 | held
0:3 4000:0     | 5000 | free
0:0 500:1      | 5000 | held
0:0 500:1 600:0| 1599 | held
0:0 500:1 600:0| 1600 | free
"""


@pytest.mark.parametrize("line", CASES.strip("\n").splitlines())
def test_only_a_partition_that_is_caught_up_becomes_idle(line: str) -> None:
    """One that was just assigned, or that lags, holds event time back however long no record comes of it."""
    fetches, asked, expected = (part.strip() for part in line.split("|"))
    task = _task()
    for one in fetches.split():
        at, behind = one.split(":")
        task.process(fetch("one", behind=int(behind)), int(at))
    task.tick(int(asked))
    assert task.watermark == {"held": MIN_TIME, "free": 100}[expected]


def test_without_idle_after_it_waits_for_ever() -> None:
    task = _task(idle_after=None)
    task.process(fetch("one"), 0)
    task.tick(1 << 50)
    assert task.watermark == MIN_TIME


def test_a_row_ends_idleness_and_the_wait_begins_anew() -> None:
    task = _task()
    task.process(fetch("one"), 0)
    task.tick(1_000)
    task.process(fetch("one", [row(100)]), 1_500)
    task.process(fetch("two", [row(300)], first=1), 1_500)
    task.tick(2_499)
    assert task.watermark == 100
    task.tick(2_500)
    assert task.watermark == 100, "both are idle, and nobody moves event time"
    task.process(fetch("two", [row(400)], first=2), 2_600)
    assert task.watermark == 400


def test_a_partition_that_is_held_back_holds_the_watermark() -> None:
    """It is not read, so nobody knows whether it is caught up; its wait begins when it is let go."""
    task = _task()
    task.process(fetch("one", [row(50)]), 0)
    held = task.inputs[ONE].time
    task.tick(999)
    held.held = True
    task.tick(5_000)
    task.process(fetch("two", [row(900)], first=1, behind=1), 5_000)
    assert task.watermark == 50
    held.held = False
    task.tick(5_999)
    assert task.watermark == 50
    task.tick(6_000)
    assert task.watermark == 900


def test_what_idleness_decided_is_committed() -> None:
    driver = Driver(two_inputs_app(idle_after="1s"))
    driver.send("one", [row(5)])
    driver.send("two", [row(100)])
    settled(driver, 1_000)
    driver.send("two", [row(101)])
    driver.commit()
    assert counts(driver) == [("a", 0, 1)]
    driver.crash()
    driver.send("one", [row(6)])
    driver.end()
    assert late(driver) == [6], "the window it belongs to was given before the crash"


def test_who_slept_before_a_restart_sleeps_on_if_it_is_still_caught_up() -> None:
    committed = _asleep()
    task = opened(two_inputs_app(idle_after="1s"), committed)
    task.process(fetch("one"), 9_000)
    task.process(fetch("two", [row(200)], first=1), 9_000)
    assert task.watermark == 200


def test_who_slept_before_a_restart_and_lags_after_it_holds_the_watermark() -> None:
    """Records came while nobody read: they are not late because another input was read first."""
    task = opened(two_inputs_app(idle_after="1s"), _asleep())
    task.process(fetch("two", [row(200)], first=1), 9_000)
    task.tick(20_000)
    assert task.watermark == 100
    task.process(fetch("one", [row(110)]), 20_000)
    task.process(fetch("one", [row(120)], first=1), 20_000)
    assert task.watermark == 120
    assert task.instrument.total("late_rows.partition_woke") == 0  # type: ignore[attr-defined]


def _asleep() -> dict[Partition, Committed]:
    """`one` is idle, `two` is at 100."""
    task = _task()
    task.process(fetch("one"), 0)
    task.tick(1_000)
    assert task.watermark == 100
    return dict(task.prepare_commit().positions)
