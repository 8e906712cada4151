"""Event time of partitions and tasks (semantics.md, section 1): what holds it, what is late, and that it never moves back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from millstream.topics.batch import MIN_TIME
from millstream.topics.timestamps import watermarks
from millstream.workers.driver import Driver
from millstream.workers.task import Task
from millstream.workers.windows.hopping import hopping
from tests.semantics.stage import counts, counts_app, fetch, late, opened, row, settled, two_inputs_app

# out_of_order | times in offset order | the watermark just before each (-: none yet)
BEFORE = """
0  | 5               | -
0  | 5 5 5           | - 5 5
0  | 5 4 6 5         | - 5 5 6
3  | 5 4 6 9 1       | - 2 2 3 6
0  | -5 -7 0         | - -5 -5
3  | -1 2 2          | - -4 -1
100| 0 1             | - -100
"""


@pytest.mark.parametrize("line", BEFORE.strip().splitlines())
def test_the_watermark_of_a_partition_is_its_largest_time_less_out_of_order(line: str) -> None:
    """Row by row, and the same wherever the rows are cut."""
    lag, times, expected = line.split("|")
    numbers = np.array([int(time) for time in times.split()], np.int64)
    wanted = [MIN_TIME if text == "-" else int(text) for text in expected.split()]
    for cut in range(len(numbers) + 1):
        first, between = watermarks(numbers[:cut], MIN_TIME, int(lag))
        second, _ = watermarks(numbers[cut:], between, int(lag))
        assert [*first.tolist(), *second.tolist()] == wanted


def test_the_watermark_of_a_task_is_the_smallest_of_its_partitions() -> None:
    task = opened(two_inputs_app())
    task.process(fetch("one", [row(50)]), 0)
    assert task.watermark == MIN_TIME, "a partition with no record yet holds at minus infinity"
    task.process(fetch("two", [row(20)]), 0)
    assert task.watermark == 20
    task.process(fetch("two", [row(90)], first=1), 0)
    assert task.watermark == 50


def test_a_watermark_never_moves_back() -> None:
    """Whatever is read, whoever sleeps and wakes, whoever goes on after a crash."""
    driver = Driver(two_inputs_app(idle_after="1s"))
    seen = [MIN_TIME]

    def moved(**deeds: Any) -> None:
        for topic, times in deeds.items():
            driver.send(topic, [row(time) for time in times])
        seen.append(_task(driver).watermark)

    moved(one=[50], two=[40])
    moved(one=[10], two=[5])
    settled(driver, 2_000)
    moved(one=[70])
    moved(two=[41, 42])
    driver.commit()
    driver.crash()
    moved()
    moved(two=[60])
    moved(two=[100])
    assert seen == sorted(seen)
    assert seen[1:] == [40, 40, 70, 70, 70, 70, 70]


def _task(driver: Driver) -> Task:
    (slot,) = driver._slots
    assert slot.task is not None
    return slot.task


def test_lateness_is_judged_by_the_own_partition_and_not_by_the_task() -> None:
    """Of two inputs the faster one is far ahead: its rows are judged by itself, those of the slower one are not late."""
    driver = Driver(two_inputs_app())
    driver.send("one", [row(time) for time in (5, 100, 6)])
    driver.send("two", [row(time) for time in (4, 7)])
    driver.end()
    assert counts(driver) == [("a", 0, 3), ("a", 100, 1)]
    assert late(driver) == [6]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lateness_does_not_depend_on_how_rows_were_polled(size: int) -> None:
    """In one fetch a row may be late by another that came in the same fetch before it."""
    driver = Driver(counts_app(), fetch_records_max=size)
    driver.send("in", [row(time) for time in (1, 9, 10, 2, 25, 19, 20, 9)])
    driver.end()
    assert counts(driver) == [("a", 0, 2), ("a", 10, 1), ("a", 20, 2)]
    assert late(driver) == [2, 9, 19]


def test_rows_late_for_some_windows_count_in_the_others() -> None:
    """At the watermark 10 the window [0, 10) is gone, [5, 15) is not: 7 counts once, 4 is late for all of its own."""
    driver = Driver(counts_app(window=hopping("10ms", "5ms")))
    driver.send("in", [row(time) for time in (10, 7, 4)])
    driver.end()
    assert counts(driver) == [("a", 5, 2), ("a", 10, 1)]
    assert late(driver) == [4]
    assert driver.instrument.total("late_rows") == 1
    assert driver.instrument.total("late_window_rows") == 3


def test_rows_of_a_partition_that_wakes_behind_are_late_under_their_own_reason() -> None:
    driver = Driver(two_inputs_app(idle_after="1s"))
    driver.send("one", [row(5)])
    settled(driver, 1_000)
    driver.send("two", [row(100)])
    driver.send("one", [row(6)])
    driver.end()
    assert late(driver) == [6]
    assert driver.instrument.total("late_rows.partition_woke") == 1
    assert driver.instrument.total("late_rows") == 0
    assert "slept" in driver.rows("late")[0]["late_reason"]


def test_late_without_having_slept_is_the_other_reason() -> None:
    """Control of the test above."""
    driver = Driver(two_inputs_app(idle_after="1s"))
    driver.send("one", [row(5), row(100), row(6)])
    driver.end()
    assert driver.instrument.total("late_rows") == 1
    assert driver.instrument.total("late_rows.partition_woke") == 0
