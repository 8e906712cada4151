"""Warm copies: they follow what the owner commits, cost no shard anything, and make a failover a matter of a tail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from millstream.state.store import Databases
from millstream.state.stores.memory import MemoryDatabases
from millstream.topics.batch import Partition
from millstream.topics.broker import Broker, TopicSpec
from millstream.topics.kafka.broker import KafkaBroker
from millstream.topics.memory import MemoryBroker
from millstream.workers.app import App
from millstream.workers.errors import PlanError
from millstream.workers.instrument import Remembered
from millstream.workers.worker import Worker
from tests.polling import until
from tests.workers.sums import members, newest, sums
from tests.workers.test_recovery import USERS, directory, produce, spoil

PARTITIONS = 2


@dataclass
class Pair:
    """Workers of one app over the memory broker."""

    broker: MemoryBroker
    replicas: int = 1
    told: dict[str, Remembered] = field(default_factory=dict)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def start(self, name: str, databases: Databases | None = None) -> Worker:
        self.told[name] = Remembered()
        app = sums("app", PARTITIONS, instance_id=name, standby_replicas=self.replicas)
        worker = Worker(app, self.broker, databases=databases or MemoryDatabases(), instrument=self.told[name])
        self.tasks[name] = asyncio.create_task(worker.run())
        return worker

    async def counts(self, events: int) -> None:
        """Until every user has been counted so often."""

        async def so() -> bool:
            for task in self.tasks.values():
                if task.done():
                    await task
            found = await newest(self.broker, "app.counts", PARTITIONS)
            return len(found) == USERS * PARTITIONS and set(found.values()) == {events}

        await until(so)

    async def end(self, worker: Worker, name: str) -> None:
        worker.stop(leave=True)
        await self.tasks.pop(name)


async def topics() -> MemoryBroker:
    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([TopicSpec("app.events", PARTITIONS)])
    return broker


def caught_up(broker: MemoryBroker, *workers: Worker) -> Callable[[], Awaitable[bool]]:
    """Each shard has one owner, who works, and one copy, which has what the changelog has."""

    async def so() -> bool:
        told = [worker.statistics() for worker in workers]
        copies = {standby.shard: standby.position for one in told for standby in one.standbys}
        return all(worker.ready for worker in workers) and copies == await changelog_ends(broker)

    return so


async def changelog_ends(broker: Broker, app: str = "app", partitions: int = PARTITIONS) -> dict[int, int]:
    """By partition."""
    topics = await broker.list_topics()
    (name,) = (name for name in topics if name.startswith(f"{app}-") and name.endswith("-changelog"))
    reader = broker.reader()
    await reader.start()
    ends = await reader.end_offsets([Partition(name, index) for index in range(partitions)])
    await reader.stop()
    return {partition.index: end for partition, end in ends.items()}


async def test_a_failover_to_a_warm_copy_reads_no_changelog_again() -> None:
    pair = Pair(await topics())
    one, two = pair.start("one"), pair.start("two")
    await until(caught_up(pair.broker, one, two))
    for events in (1, 2, 3):
        await produce(pair.broker, PARTITIONS)
        await pair.counts(events)
    await until(caught_up(pair.broker, one, two))
    await pair.end(two, "two")
    await produce(pair.broker, PARTITIONS)
    await pair.counts(4)
    assert pair.told["one"].total("restored_records") == 0
    assert one.statistics().standbys == ()
    await pair.end(one, "one")


async def test_without_copies_the_failover_reads_everything() -> None:
    """Negative control of the zero above."""
    pair = Pair(await topics(), replicas=0)
    one, two = pair.start("one"), pair.start("two")
    await pair_ready(one, two)
    await produce(pair.broker, PARTITIONS)
    await pair.counts(1)
    assert one.statistics().standbys == two.statistics().standbys == ()
    await pair.end(two, "two")
    await produce(pair.broker, PARTITIONS)
    await pair.counts(2)
    assert pair.told["one"].total("restored_records") >= USERS
    await pair.end(one, "one")


async def pair_ready(one: Worker, two: Worker) -> None:
    async def shared() -> bool:
        owned = [{s.number for s in w.statistics().shards if s.phase != "closed"} for w in (one, two)]
        return one.ready and two.ready and owned in ([{0}, {1}], [{1}, {0}])

    await until(shared)


async def test_a_new_copy_begins_with_the_whole_changelog_and_goes_on_after_a_restart() -> None:
    pair, disk = Pair(await topics()), MemoryDatabases()
    one = pair.start("one")
    await produce(pair.broker, PARTITIONS)
    await pair.counts(1)
    two = pair.start("two", disk)
    await until(caught_up(pair.broker, one, two))
    two.stop()  # a restart: it keeps its place, its shard waits
    await pair.tasks.pop("two")
    opened = {task: disk.open(task) for task in disk.tasks()}
    stored = {
        task: sum(map(len, database.store(name).scan()))
        for task, database in opened.items()
        for name in database.store_names()
    }
    assert sorted(task.rpartition("/")[2] for task in stored) == ["0", "1"]
    assert min(stored.values()) >= USERS
    two = pair.start("two", disk)
    await until(caught_up(pair.broker, one, two))
    await pair.end(one, "one")
    await produce(pair.broker, PARTITIONS)
    await pair.counts(2)
    assert pair.told["two"].total("restored_records") == 0
    await pair.end(two, "two")


async def test_a_copy_that_cannot_be_read_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair(await topics())
    one, two = pair.start("one"), pair.start("two", directory(tmp_path))
    await until(caught_up(pair.broker, one, two))
    await produce(pair.broker, PARTITIONS)
    await pair.counts(1)
    (copied,) = (standby.shard for standby in two.statistics().standbys)
    two.stop()
    await pair.tasks.pop("two")
    spoil(tmp_path, copied)
    with caplog.at_level(logging.WARNING, "millstream.worker"):
        two = pair.start("two", directory(tmp_path))
        await until(caught_up(pair.broker, one, two))
    assert f"warm copy of shard {copied}" in caplog.text
    await pair.end(one, "one")
    await produce(pair.broker, PARTITIONS)
    await pair.counts(2)
    await pair.end(two, "two")


async def test_copies_wait_for_a_broker_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """They say so once, and go on by themselves."""
    pair = Pair(await topics())
    one, two = pair.start("one"), pair.start("two")
    await until(caught_up(pair.broker, one, two))
    await produce(pair.broker, PARTITIONS)
    pair.broker.faults.unreachable = True

    async def said_by_both() -> bool:
        return caplog.text.count("warm copies wait for the broker") == 2

    await until(said_by_both)
    pair.broker.faults.unreachable = False
    await pair.counts(1)
    await until(caught_up(pair.broker, one, two))
    assert await said_by_both()
    for worker, name in ((one, "one"), (two, "two")):
        await pair.end(worker, name)


def test_a_number_of_copies_that_cannot_be_meant_is_refused() -> None:
    with pytest.raises(PlanError, match="standby_replicas must be 0 to 16, got -1"):
        App("app", standby_replicas=-1)


@pytest.mark.kafka
async def test_a_killed_workers_shards_go_to_their_copies(
    kafka: str, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """On a real Kafka, three workers, one ends; who takes over restores next to nothing."""
    async with members(kafka, unique("standby"), tmp_path, standby_replicas=1) as group:
        workers = {name: group.start(name) for name in ("one", "two", "three")}
        await group.all_ready(*workers.values())

        broker = KafkaBroker({"bootstrap.servers": kafka})
        await broker.start()

        async def copied() -> bool:
            copies = [copy for member in workers.values() for copy in member.worker.statistics().standbys]
            ends = await changelog_ends(broker, group.app, group.partitions)
            return len(copies) == group.partitions and all(copy.position >= ends[copy.shard] - 1 for copy in copies)

        await group.produce(300)
        await group.counts(1)
        await until(copied)
        await broker.stop()
        gone = workers.pop("three")
        (shard,) = gone.shards
        (heir,) = (
            member
            for member in workers.values()
            if shard in {copy.shard for copy in member.worker.statistics().standbys}
        )
        await gone.stop(leave=True)
        await group.all_ready(*workers.values())
        assert shard in heir.shards
        assert sum(member.told.total("restored_records") for member in workers.values()) == 0
        await group.produce(300)
        await group.counts(2)
