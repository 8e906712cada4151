"""What is decided stays decided: closing, crashes, lost and reset offsets, transactions that were given up (sections 1 and 5)."""

from __future__ import annotations

from typing import Any

import pytest

from millstream.state.windows import WindowState
from millstream.topics.batch import MIN_TIME, Fetch, Partition
from millstream.topics.broker import TopicSpec
from millstream.topics.control import ControlRecord, control_records, split_control
from millstream.topics.memory import MemoryBroker
from millstream.workers.app import App
from millstream.workers.driver import Driver
from millstream.workers.watermark import InputTime
from tests.semantics.stage import counted, counts, counts_app, late, row, settled, source, told, two_inputs_app


@pytest.mark.parametrize("committed", [True, False])
def test_the_record_that_closes_a_window_is_in_the_batch_that_crashes(committed: bool) -> None:
    """Nothing of it was committed, so the window is open again, takes what comes before the record comes again, and is
    given once."""
    driver = Driver(counts_app())
    driver.send("in", [row(1), row(2)])
    driver.commit()
    driver.send("in", [row(3), row(10), row(4)])
    if committed:
        driver.commit()
    driver.crash()
    driver.end()
    assert counts(driver) == [("a", 0, 3), ("a", 10, 1)]
    assert late(driver) == [4]


def test_a_window_that_idleness_closed_stays_closed_after_a_crash() -> None:
    driver = Driver(two_inputs_app(idle_after="1s"))
    driver.send("one", [row(1)])
    driver.send("two", [row(2)])
    settled(driver, 1_000)
    driver.send("two", [row(10)])
    driver.commit()
    driver.crash()
    driver.send("one", [row(3)])
    driver.end()
    assert counts(driver) == [("a", 0, 2), ("a", 10, 1)]
    assert late(driver) == [3]


def test_a_closing_by_the_clock_that_was_not_committed_did_not_happen() -> None:
    driver = Driver(two_inputs_app({"advance_when_idle": True}, idle_after="1s"))
    driver.send("one", [row(1)])
    driver.commit()
    driver.advance_clock(5_000)
    driver.crash()
    driver.send("two", [row(2)])
    driver.end()
    assert counts(driver) == [("a", 0, 2)]
    assert late(driver) == []


@pytest.mark.parametrize("checkpoint", [True, False])
def test_offsets_that_expired_over_stores_that_stayed_open_no_window_again(checkpoint: bool) -> None:
    """ "Closed up to" is kept with the store too, and the larger wins: all is read again, and closed windows are not given
    a second time."""
    driver = Driver(counts_app())
    driver.send("in", [row(1), row(12), row(25)])
    (driver.checkpoint if checkpoint else driver.commit)()
    before = counts(driver)
    assert before == [("a", 0, 1), ("a", 10, 1)]
    for slot in driver._slots:
        slot.committed = {}
    driver.crash()
    driver.send("in", [row(40)])
    driver.end()
    assert [one for one in counts(driver) if one[1] < 20] == before
    assert set(late(driver)) == {1, 12}


def test_negative_control_a_store_that_forgot_how_far_it_closed_gives_windows_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restore = WindowState.restore

    def forgetful(self: WindowState, *found: Any) -> None:
        restore(self, *found)
        self.closed_up_to = None

    driver = Driver(counts_app())
    driver.send("in", [row(1), row(12), row(25)])
    driver.commit()
    for slot in driver._slots:
        slot.committed = {}
    monkeypatch.setattr(WindowState, "restore", forgetful)
    driver.crash()
    driver.end()
    assert counts(driver).count(("a", 0, 1)) == 2


def test_offsets_that_were_set_forward_lose_what_is_between_and_nothing_else() -> None:
    driver = Driver(counts_app())
    driver.send("in", [row(1), row(12), row(25), row(26)])
    driver.commit()
    driver._logs[Partition("in", 0)] += driver._logs[Partition("in", 0)][2:]
    for slot in driver._slots:
        slot.committed = {name: type(one)(5, one.metadata) for name, one in slot.committed.items()}
    driver.crash()
    driver.end()
    assert counts(driver) == [("a", 0, 1), ("a", 10, 1), ("a", 20, 3)]


async def test_a_control_record_of_a_transaction_that_was_given_up_counts_nothing() -> None:
    """It is read as data is: committed or not at all. The one told after it is the one that counts."""
    broker = await _broker()
    time = await _told_by(broker, commit=False)
    assert time.watermark == 5


async def test_and_one_of_a_transaction_that_was_committed_counts() -> None:
    """Control of the test above."""
    broker = await _broker()
    time = await _told_by(broker, commit=True)
    assert time.watermark == 1_000


async def _broker() -> MemoryBroker:
    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([TopicSpec("t", 1)])
    return broker


async def _told_by(broker: MemoryBroker, *, commit: bool) -> InputTime:
    """The time of a partition whose writer says 1000 in a transaction, then 5 as its next owner who had committed nothing."""
    for watermark, ends_well in ((1_000, commit), (5, True)):
        producer = broker.producer(transactional_id="writer")
        await producer.start()
        await producer.begin()
        await (await producer.send(Partition("t", 0), control_records([ControlRecord("0", 0, watermark)])))
        await (producer.commit() if ends_well else producer.abort())
        await producer.stop()
    reader = broker.reader()
    await reader.start()
    reader.assign({Partition("t", 0): 0})
    time = InputTime(None, {"0/0": MIN_TIME})
    while True:
        fetches: list[Fetch] = list(await reader.poll(timeout_ms=1_000, records_max=10))
        for fetch in fetches:
            time.saw_control(split_control(fetch)[1])
        if any(fetch.caught_up for fetch in fetches):
            return time


def _chained(**settings: Any) -> App:
    app = App("rules", watermark_interval_ms=1, **settings)
    counted(app.stream(source(app, partitions=2)), by="g")
    return app


def test_a_restart_downstream_alone_goes_on_from_the_committed_vector() -> None:
    """Control records that were read are not read again, and need not be."""
    driver = Driver(_chained())
    driver.send("in", [row(5)], partition=0)
    driver.send("in", [row(6)], partition=1)
    driver.commit()
    for slot in driver._slots:
        if slot.id.sub == "1":
            slot.task = driver._restored(slot)
    driver.send("in", [row(20)], partition=0)
    driver.send("in", [row(20)], partition=1)
    driver.commit()
    assert counts(driver, "g") == [("b", 0, 2)]


def test_a_writer_that_repeats_what_it_said_moves_nothing_back() -> None:
    driver = Driver(_chained())
    driver.send("in", [row(20)], partition=0)
    driver.send("in", [row(20)], partition=1)
    driver.commit()
    for index in range(2):
        driver._logs[Partition("rules-by-g-1-repartition", index)] += [told(0, 3), told(1, 3)]
    driver.commit()
    assert {slot.task.watermark for slot in driver._slots if slot.task and slot.id.sub == "1"} == {20}
