"""Event time across a repartition topic is what its writers say (semantics.md, section 1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl
import pytest

from millstream.topics.batch import MAX_TIME, MIN_TIME, Partition
from millstream.topics.control import ControlRecord
from millstream.workers import inputs as inputs_module
from millstream.workers import task as task_module
from millstream.workers.app import App
from millstream.workers.batch_run import run_batch
from millstream.workers.driver import Driver
from millstream.workers.outputs import RepartitionWriter
from millstream.workers.watermark import InputTime
from tests.semantics.stage import (
    SCHEMA,
    counted,
    counts,
    counts_app,
    key_in,
    late,
    partition_of,
    row,
    settled,
    source,
    told,
)

TOPIC = "rules-by-g-1-repartition"


def _fast_and_slow() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The same stretch of time, in two partitions."""
    return [row(at) for at in range(0, 1_000, 7)], [row(at) for at in range(0, 1_000, 9)]


def _read_far_apart(driver: Driver) -> None:
    """All of one partition before the first row of the other, in several commits."""
    for partition, rows in enumerate(_fast_and_slow()):
        for first in range(0, len(rows), 20):
            driver.send("in", rows[first : first + 20], partition=partition)
            driver.commit()
    driver.end()


def test_a_backlog_upstream_makes_nothing_late_and_the_result_is_that_of_a_bounded_run() -> None:
    app = counts_app(by="g", partitions=2)
    driver = Driver(app)
    _read_far_apart(driver)
    rows = sorted((one for part in _fast_and_slow() for one in part), key=lambda one: one["at"])
    bounded = run_batch(app, {"in": pl.DataFrame(rows)})["out"].to_dicts()
    assert counts(driver, "g") == sorted((one["g"], one["window_start"], one["n"]) for one in bounded)
    assert late(driver) == []
    assert sum(n for _, _, n in counts(driver, "g")) == len(rows)


def test_negative_control_without_control_records_rows_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that goes by the largest time it has seen, as it does for topics of others, calls the backlog late."""
    with _by_largest_time(monkeypatch):
        driver = Driver(counts_app(by="g", partitions=2))
        _read_far_apart(driver)
    assert len(late(driver)) > 50


@contextmanager
def _by_largest_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from millstream.workers.inputs import Input

    read_rows = Input._read_rows

    def without_block_time(self: Input, fetch: Any) -> Any:
        batch, rejected = read_rows(self, fetch)
        return batch.replaced(batch.frame.drop("__block_time", strict=False)), rejected

    with monkeypatch.context() as patch:
        patch.setattr(inputs_module, "_time", lambda topology, source: InputTime(None))
        patch.setattr(Input, "_read_rows", without_block_time)
        yield


# what was told, oldest first: shard:watermark, `i` behind it for idle | the partition's watermark, `idle` for an idle one
TOLD = """
0:5                 | -
0:5 1:9             | 5
0:5 1:9 0:20        | 9
0:5 1:9 0:3         | 5
0:5 1:9i            | 5
0:5i 1:9            | 9
0:5i 1:9 0:6        | 9
0:5i 1:9 0:30 1:40  | 30
0:5i 1:9i           | 5 idle
0:5i 1:9i 1:10      | 10
0:50i 1:90i 0:95i   | 90 idle
0:5i                | -
1:7 0:END           | 7
1:END 0:END         | END
7:5 1:9             | -
"""


@pytest.mark.parametrize("line", TOLD.strip().splitlines())
def test_the_watermark_of_a_partition_is_the_smallest_over_its_writers_that_are_not_idle(line: str) -> None:
    """All are known from the plan: of one that has said nothing nothing is known, and one that is not in it counts nothing."""
    said, expected = line.split("|")
    time = InputTime(30_000, {"0/0": MIN_TIME, "0/1": MIN_TIME})
    time.position_moved(caught_up=True, had_rows=False, now_ms=0)
    for one in said.split():
        shard, watermark = one.rstrip("i").split(":")
        reached = MAX_TIME if watermark == "END" else int(watermark)
        time.saw_control([ControlRecord("0", int(shard), reached, one.endswith("i"))])
        time.tick(0)
    shown = {MIN_TIME: "-", MAX_TIME: "END"}.get(time.watermark, str(time.watermark))
    assert shown + " idle" * time.idle == expected.strip()


def test_a_writer_that_wakes_holds_partitions_too_that_got_no_row_of_it() -> None:
    """It says so to every partition. Of two inputs the other one goes on, and the next row of the waked one is not late."""
    app = App("rules")
    left = app.stream(source(app, "l", idle_after="1s", partitions=1))
    right = app.stream(source(app, "r", key="g", idle_after="1s", partitions=2))
    counted(left.partitioned(("g",)).merge(right), by="g")
    driver = Driver(app)
    near, far = key_in(0), key_in(1)
    driver.send("l", [row(1, g=near)])
    driver.send("r", [row(1, g=near), row(1, g=far)])
    settled(driver, 2_000)
    driver.send("r", [row(100, g=far)])
    driver.send("l", [row(100, g=near)])
    driver.commit()
    driver.send("r", [row(300, g=far)])
    driver.commit()
    driver.send("l", [row(150, g=far)])
    driver.end()
    assert late(driver) == []
    assert (far, 150, 1) in counts(driver, "g")


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_of_two_inputs_that_wake_together_none_is_late_by_the_order_of_reading(order: list[int]) -> None:
    """One record upstream wakes both; what of them is read first does not decide whether rows of the other are late."""
    driver = _woken(order)
    assert counts(driver, "g") == [("b", 0, 2), ("b", 50, 2), ("b", 90, 2)]


def test_negative_control_awake_only_when_read_rows_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_module.Task, "arrived", lambda self, fetches: None)
    assert sum(n for order in ([0, 1], [1, 0]) for _, _, n in counts(_woken(order), "g")) < 12


def _woken(order: list[int]) -> Driver:
    """A topic repartitioned twice, which are two inputs of a task; both slept."""
    app = App("rules")
    rows = app.stream(source(app, idle_after="1s"))
    streams = [rows.select(*SCHEMA), rows.with_columns(x=pl.col("x") + 1)]
    by_g = [streams[number].partitioned(("g",)) for number in order]
    counted(by_g[0].merge(by_g[1]), by="g")
    driver = Driver(app)
    driver.send("in", [row(1)])
    settled(driver, 2_000)
    driver.send("in", [row(50), row(90)])
    driver.end()
    return driver


def test_times_in_the_topic_say_nothing_of_the_watermark() -> None:
    driver = Driver(counts_app(by="g", partitions=2))
    driver.send("in", [row(1_000)], partition=0)
    driver.commit()
    assert {slot.task.watermark for slot in driver._slots if slot.task and slot.id.sub == "1"} == {MIN_TIME}


def test_control_records_are_no_rows() -> None:
    """Other readers skip them, and a window counts none of them."""
    driver = Driver(counts_app(by="g", partitions=2))
    driver.send("in", [row(1)], partition=0)
    driver.send("in", [row(2)], partition=1)
    for _ in range(3):
        driver.commit()
    driver.end()
    assert counts(driver, "g") == [("b", 0, 2)]
    assert driver.instrument.total("rejected_records") == 0


# moved by | nothing else to do | told as a record of its own to partitions without rows
WORTH = """
0   | no  | no
999 | no  | no
1000| no  | yes
1   | yes | yes
0   | yes | no
"""


@pytest.mark.parametrize("line", WORTH.strip().splitlines())
def test_the_watermark_is_told_when_it_moved_by_the_interval(line: str) -> None:
    moved, quiet, expected = (part.strip() for part in line.split("|"))
    writer = RepartitionWriter("t", ("k",), tuple(SCHEMA), 3, "0", 0, 1_000)
    assert len(writer.sends([], 500, False, quiet=False)) == 3, "the first time in any case"
    sends = writer.sends([], 500 + int(moved), False, quiet=quiet == "yes")
    assert len(sends) == (3 if expected == "yes" else 0)
    assert len(writer.sends([], 500 + int(moved), True, quiet=False)) == 3, "and whenever it falls asleep"


def test_a_new_owner_of_a_shard_goes_on_from_what_its_predecessor_committed() -> None:
    """What was told before is not taken back: downstream the vector is committed with the offsets too."""
    driver = Driver(counts_app(by="g", partitions=2))
    driver.send("in", [row(20)], partition=0)
    driver.send("in", [row(25)], partition=1)
    driver.commit()
    before = _vectors(driver)
    assert before == [{"0/0": 20, "0/1": 25}] * 2
    driver.crash()
    assert _vectors(driver) == before
    driver.send("in", [row(21)], partition=0)
    driver.commit()
    assert _vectors(driver) == [{"0/0": 21, "0/1": 25}] * 2


def test_a_control_record_is_read_in_its_place_among_the_rows() -> None:
    """Rows before it are judged by what was said before it, rows behind it by what it says."""
    driver = Driver(counts_app(by="g", partitions=2))
    driver.send("in", [row(5)], partition=0)
    driver.commit()
    blocks = driver._logs[Partition(TOPIC, partition_of("b"))]
    (block,) = [record for record in blocks if record.value]
    plain = type(block)(block.key, block.value, block.timestamp)
    blocks += [plain, told(0, 50), told(1, 50), plain]
    driver.end()
    assert counts(driver, "g") == [("b", 0, 2)]
    assert late(driver) == [5]


def _vectors(driver: Driver) -> list[dict[str, int]]:
    tasks = [slot.task for slot in driver._slots if slot.id.sub == "1" and slot.task is not None]
    return [dict(item.time.writers or {}) for task in tasks for item in task.inputs.values()]
