"""How state comes back: in parts where it is long, in full where there is nothing to begin from, beside what works already."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest

from millstream.state.directory import StateDirectory
from millstream.state.settings import StateSettings
from millstream.state.store import Databases
from millstream.state.stores.memory import MemoryDatabase, MemoryDatabases
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.memory import MemoryBroker
from millstream.workers.instrument import Remembered
from millstream.workers.restore_progress import RestoreProgress
from millstream.workers.worker import Worker
from tests.polling import until
from tests.workers.sums import newest, sums

USERS = 500
LIMIT_S = 30
RECORDS = USERS + 1
"""Of the changelog: one for each user, and one that says up to when windows are closed."""


async def produce(broker: MemoryBroker, partitions: int = 1) -> None:
    """One event of each user, in each partition."""
    producer = broker.producer()
    await producer.start()
    for partition in range(partitions):
        users = [f"user-{partition}-{number}" for number in range(USERS)]
        values = large_binary([orjson.dumps({"user": user, "ts": 1_000}) for user in users])
        records = Records(large_binary([user.encode() for user in users]), values)
        await (await producer.send(Partition("app.events", partition), records))
    await producer.stop()


async def started(partitions: int = 1) -> MemoryBroker:
    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([TopicSpec("app.events", partitions)])
    await produce(broker, partitions)
    return broker


async def worked_off(broker: MemoryBroker, databases: Databases, partitions: int = 1) -> Remembered:
    """A worker that starts, works off what there is, and is stopped before its windows close."""
    told = Remembered()
    worker = Worker(sums("app", partitions), broker, databases=databases, instrument=told)
    running = asyncio.create_task(worker.run())

    async def done() -> bool:
        if running.done():
            await running
        return worker.ready and worker.statistics().lag == 0 and told.total("records_in") > 0

    async with asyncio.timeout(LIMIT_S):
        await until(done)
        worker.stop()
        await running
    return told


async def counted(broker: MemoryBroker, events: int, partitions: int = 1) -> None:
    found = await newest(broker, "app.counts", partitions)
    assert len(found) == USERS * partitions
    assert set(found.values()) == {events}


@pytest.mark.parametrize("tail_bytes_max", [1, 5_000, 1 << 30])
async def test_a_lost_database_is_restored_from_the_changelog(
    tail_bytes_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In however many parts."""
    monkeypatch.setattr("millstream.workers.recovery.TAIL_BYTES_MAX", tail_bytes_max)
    monkeypatch.setattr("millstream.workers.changelog_reader.POLL_RECORDS_MAX", 50)
    broker = await started()
    await worked_off(broker, MemoryDatabases())
    await produce(broker)
    told = await worked_off(broker, MemoryDatabases())
    assert told.total("restored_records") == RECORDS
    await counted(broker, 2)


async def test_what_is_held_of_a_tail_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is in the database, with its position, before the next but one is read."""
    monkeypatch.setattr("millstream.workers.recovery.TAIL_BYTES_MAX", 1)
    monkeypatch.setattr("millstream.workers.changelog_reader.POLL_RECORDS_MAX", 50)
    writes: list[tuple[int, int]] = []

    class Watched(MemoryDatabase):
        def write(self, stores, meta):  # type: ignore[no-untyped-def]
            changed = sum(len(changes) for write in stores.values() for changes in write.changes)
            super().write(stores, meta)
            position = next((value for key, value in meta.items() if key.startswith("changelog/")), b"-1")
            writes.append((changed, int(position or -1)))

    class Watching(MemoryDatabases):
        def open(self, task: str) -> MemoryDatabase:
            return self._tasks.setdefault(task, Watched())

    broker = await started()
    await worked_off(broker, MemoryDatabases())
    await produce(broker)
    await worked_off(broker, Watching())
    parts = [write for write in writes if write[0] <= 50]
    assert sum(changed for changed, _ in parts) >= USERS
    positions = [position for _, position in parts]
    assert positions == sorted(positions)
    assert len(set(positions)) > 5


async def test_a_restore_that_is_broken_off_goes_on_from_the_last_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.workers.recovery.TAIL_BYTES_MAX", 1)
    monkeypatch.setattr("millstream.workers.changelog_reader.POLL_RECORDS_MAX", 50)
    broker = await started()
    await worked_off(broker, MemoryDatabases())
    await produce(broker)
    broker.faults.lose("fetch", 6)
    told = await worked_off(broker, MemoryDatabases())
    assert told.total("shard_failures") == 1
    assert told.total("restored_records") < USERS + 150
    await counted(broker, 2)


async def test_a_changelog_made_anew_means_a_state_made_anew() -> None:
    """Deleted and created again under the same name: what the old one's state was stands for nothing."""
    broker, databases = await started(), MemoryDatabases()
    await worked_off(broker, databases)
    await broker.delete_topics([name for name in await broker.list_topics() if name.endswith("-changelog")])
    await produce(broker)
    told = await worked_off(broker, databases)
    assert told.total("restored_records") == 0
    await counted(broker, 1)


async def test_a_state_ahead_of_its_changelog_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    broker, databases = await started(), MemoryDatabases()
    await worked_off(broker, databases)
    for task in databases.tasks():
        database = databases.open(task)
        keys = [key for key in database._meta if key.startswith("changelog/")]
        database.write({}, dict.fromkeys(keys, b"%d" % 10**12))
    await produce(broker)
    with caplog.at_level(logging.WARNING, "millstream.worker"):
        told = await worked_off(broker, databases)
    assert "is ahead of its changelog; it is restored in full" in caplog.text
    assert told.total("restored_records") == RECORDS
    await counted(broker, 2)


def directory(path: Path) -> StateDirectory:
    shared = RocksShared(StateSettings())
    return StateDirectory(path, "app", lambda folder: RocksDatabase(folder, shared))


def spoil(path: Path, shard: int = 0) -> None:
    (current,) = path.glob(f"*/{shard}/rocksdb/CURRENT")
    current.write_text("nonsense")


def moved_aside(path: Path) -> list[Path]:
    return list(path.glob("*/0.corrupt-1"))


async def test_a_database_that_cannot_be_opened_is_moved_aside_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = await started()
    await worked_off(broker, directory(tmp_path))
    spoil(tmp_path)
    await produce(broker)
    with caplog.at_level(logging.INFO, "millstream.worker"):
        told = await worked_off(broker, directory(tmp_path))
    assert caplog.text.count("moved aside and restored") == 1
    assert len(moved_aside(tmp_path)) == 1
    assert told.total("restored_records") == RECORDS
    await counted(broker, 2)


class Slow(MemoryDatabases):
    """The database of one shard cannot be opened before the test lets it."""

    def __init__(self, shard: int) -> None:
        super().__init__()
        self.shard = shard
        self.begun = threading.Event()
        self.may_go_on = threading.Event()

    def open(self, task: str) -> MemoryDatabase:
        if task.endswith(f"/{self.shard}"):
            self.begun.set()
            assert self.may_go_on.wait(LIMIT_S)
        return super().open(task)


def phases(worker: Worker) -> dict[int, str]:
    return {shard.number: shard.phase for shard in worker.statistics().shards}


def count_is(broker: MemoryBroker, users: int) -> Callable[[], Awaitable[bool]]:
    async def so() -> bool:
        return len(await newest(broker, "app.counts", 2)) == users

    return so


async def test_a_long_restore_holds_up_no_other_shard_and_no_rebalance() -> None:
    """Shard 0 restores; shard 1 works; a second worker joins and gets shard 1; then shard 0 goes on where it was."""
    broker, slow = await started(2), Slow(0)
    first = Worker(sums("app", 2, instance_id="one"), broker, databases=slow)
    second = Worker(sums("app", 2, instance_id="two"), broker)
    tasks = [asyncio.create_task(first.run())]
    await until(count_is(broker, USERS))
    assert slow.begun.is_set()
    assert phases(first)[0] == "restoring"
    tasks.append(asyncio.create_task(second.run()))

    async def moved() -> bool:
        return second.ready and phases(second) == {1: "running"} and phases(first) == {0: "restoring", 1: "closed"}

    await until(moved)
    starts = broker.faults.seen["init_producer"]
    slow.may_go_on.set()
    await until(count_is(broker, 2 * USERS))
    assert broker.faults.seen["init_producer"] == starts == 3
    for worker in (first, second):
        worker.stop(leave=True)
    await asyncio.gather(*tasks)
    await counted(broker, 1, 2)


async def test_a_stop_in_the_middle_of_a_restore_is_clean() -> None:
    broker, slow = await started(), Slow(0)
    worker = Worker(sums("app", 1), broker, databases=slow)
    running = asyncio.create_task(worker.run())

    async def begun() -> bool:
        return slow.begun.is_set()

    await until(begun)
    worker.stop()
    slow.may_go_on.set()
    async with asyncio.timeout(LIMIT_S):
        await running
    assert phases(worker) == {0: "closed"}
    assert await newest(broker, "app.counts", 1) == {}


def test_what_is_told_of_a_restore() -> None:
    """A line at the beginning, one every five seconds with rate and time left, one at the end."""
    progress = RestoreProgress(3, "sums", 1_200_000, in_full=True, begun_s=100.0)
    assert progress.begin() == ("shard 3: restoring store sums: 1,200,000 records, in full, as there is no local state")
    progress.left = 1_000_000
    assert progress.line(104.9) is None
    assert progress.line(105.0) == (
        "shard 3: restoring store sums: 200,000 of 1,200,000 records, 40,000 a second, about 25 s left"
    )
    assert progress.line(105.1) is None
    assert progress.statistics(110.0).seconds_left == 50.0
    progress.left = 0
    assert progress.line(130.0) is None
    assert progress.end(130.0) == "shard 3: store sums is restored, 1,200,000 records in 30.0 s"


def test_a_short_tail_is_not_told() -> None:
    progress = RestoreProgress(3, "sums", 9_999, in_full=False, begun_s=0.0)
    assert not progress.told
    assert progress.line(10.0) is None
