"""Several inputs of a task: the oldest record first, and none too far ahead (semantics.md, section 1)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from millstream.topics.batch import Partition
from millstream.workers.poll_order import readable
from millstream.workers.task import Task
from tests.semantics.stage import fetch, opened, row, two_inputs_app

ONE, TWO = Partition("one", 0), Partition("two", 0)

# watermark of one, records left in it | of two | max_drift | what may be read
DRIFTS = """
100 9 | 50 9  | -  | one two
100 9 | 50 9  | 50 | one two
100 9 | 50 9  | 49 | two
100 9 | 50 0  | 0  | one two
50 9  | 100 9 | 10 | one
-9 9  | -7 9  | 1  | one
50 9  | 50 9  | 0  | one two
"""


@pytest.mark.parametrize("line", DRIFTS.strip().splitlines())
def test_an_input_further_ahead_than_max_drift_of_one_with_records_is_held_back(line: str) -> None:
    one, two, drift, expected = (part.strip() for part in line.split("|"))
    task = _task_at(one, two)
    assert _readable(task, None if drift == "-" else int(drift)) == expected.split()


def test_what_is_held_back_is_read_when_the_other_has_caught_up_and_is_not_idle_before() -> None:
    task = _task_at("100 9", "10 9")
    assert _readable(task, 20) == ["two"]
    task.tick(1 << 40)
    task.process(fetch("two", [row(95)], first=1, behind=9), 0)
    assert task.watermark == 95
    assert _readable(task, 20) == ["one", "two"]
    task.process(fetch("two", [row(500)], first=2, behind=9), 0)
    assert task.watermark == 100, "what was held back was not taken for idle"


def test_there_is_always_something_to_read() -> None:
    """Whatever is held back, another input is behind it, and has records."""
    for one in range(-3, 4):
        for two in range(-3, 4):
            for lags in ("9 9", "9 0", "0 9", "0 0"):
                first, second = lags.split()
                assert _readable(_task_at(f"{one} {first}", f"{two} {second}"), 0) != []


def _task_at(one: str, two: str) -> Task:
    task = opened(two_inputs_app(idle_after="1s"))
    for topic, said in (("one", one), ("two", two)):
        time, behind = said.split()
        task.process(fetch(topic, [row(int(time))], behind=int(behind)), 0)
    return task


def _readable(task: Task, drift_ms: int | None) -> list[str]:
    runtimes: Any = {0: SimpleNamespace(tasks={task.id: task})}
    return [partition.topic for partition in readable([ONE, TWO], runtimes, drift_ms)]
