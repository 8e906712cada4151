"""Whole workers of one app on a real Kafka, in this process: running sums by user, state in RocksDB, everything told to a listener."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from millstream.state.directory import StateDirectory
from millstream.state.settings import StateSettings
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import Broker
from millstream.topics.kafka.broker import KafkaBroker
from millstream.workers.app import App
from millstream.workers.instrument import Remembered
from millstream.workers.reducers.count import Count
from millstream.workers.windows.tumbling import tumbling
from millstream.workers.worker import Worker
from tests.polling import until

PARTITIONS = 3
WINDOW_MS = 3_600_000

logging.getLogger("aiokafka").setLevel(logging.ERROR)


def sums(name: str, partitions: int = PARTITIONS, **options: Any) -> App:
    """How many events each user had in the hour, told again at each commit."""
    app = App(name, commit_interval="50ms", checkpoint_interval_ms=200, **options)
    schema = {"user": "string", "ts": "timestamp_ms"}
    events = app.topic(f"{name}.events", schema, key="user", event_time="ts", partitions=partitions)
    counts = app.stream(events).window(tumbling(WINDOW_MS), by="user").agg(n=Count())
    counts.to(app.topic(f"{name}.counts", key="user", partitions=partitions))
    return app


@dataclass
class Member:
    """One process, as it were: what it remembers ends with it, what is in its folder does not."""

    worker: Worker
    told: Remembered
    running: asyncio.Task[None]

    @property
    def generation(self) -> int:
        return self.worker.statistics().generation

    @property
    def shards(self) -> set[int]:
        return {shard.number for shard in self.worker.statistics().shards if shard.phase != "closed"}

    async def stop(self, *, leave: bool = False) -> None:
        self.worker.stop(leave=leave)
        await self.running


@dataclass
class Members:
    """Workers of one app by name; what still runs at the end is stopped."""

    kafka: str
    app: str
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    partitions: int = PARTITIONS
    living: dict[str, Member] = field(default_factory=dict)
    produced: dict[int, int] = field(default_factory=dict)

    def start(self, name: str, folder: str | None = None) -> Member:
        shared = RocksShared(StateSettings())
        directory = StateDirectory(self.folder / (folder or name), self.app, lambda path: RocksDatabase(path, shared))
        told = Remembered()
        app = sums(self.app, self.partitions, instance_id=name, **self.options)
        worker = Worker(app, KafkaBroker({"bootstrap.servers": self.kafka}), instrument=told, databases=directory)
        member = Member(worker, told, asyncio.create_task(worker.run()))
        self.living[name] = member
        return member

    async def all_ready(self, *members: Member) -> None:
        """All shards are worked on, each by one of these."""

        async def so() -> bool:
            for member in members:
                if member.running.done():
                    await member.running
            owned = sorted(shard for member in members for shard in member.shards)
            return owned == list(range(self.partitions)) and all(member.worker.ready for member in members)

        await until(so)

    async def produce(self, users: int) -> None:
        """One event of each of so many users, in every partition."""
        broker = KafkaBroker({"bootstrap.servers": self.kafka})
        await broker.start()
        producer = broker.producer()
        await producer.start()
        for partition in range(self.partitions):
            keys = [f"user-{partition}-{number}" for number in range(users)]
            values = [orjson.dumps({"user": user, "ts": 1_000}) for user in keys]
            records = Records(large_binary([key.encode() for key in keys]), large_binary(values))
            await (await producer.send(Partition(f"{self.app}.events", partition), records))
        await producer.stop()
        await broker.stop()

    async def counts(self, events: int) -> None:
        """Waits until the newest counts of all users are these: so many events of each user."""
        broker = KafkaBroker({"bootstrap.servers": self.kafka})
        await broker.start()

        async def so() -> bool:
            found = await newest(broker, f"{self.app}.counts", self.partitions)
            return bool(found) and set(found.values()) == {events}

        await until(so)
        await broker.stop()


async def newest(broker: Broker, topic: str, partitions: int) -> dict[str, int]:
    """The last count of each user."""
    if not await broker.describe_topics([topic]):
        return {}
    reader = broker.reader()
    await reader.start()
    places = [Partition(topic, index) for index in range(partitions)]
    ends = await reader.end_offsets(places)
    reader.assign(dict.fromkeys(places, 0))
    found: dict[str, int] = {}
    while any(reader.position(place) < ends[place] for place in places):
        for fetch in await reader.poll(timeout_ms=500, records_max=100_000):
            for value in fetch.values:
                if value is not None:
                    row = orjson.loads(value)
                    found[row["user"]] = row["n"]
    await reader.stop()
    return found


@asynccontextmanager
async def members(
    kafka: str, app: str, folder: Path, partitions: int = PARTITIONS, **options: Any
) -> AsyncIterator[Members]:
    everyone = Members(kafka, app, folder, options, partitions)
    try:
        yield everyone
    finally:
        for member in everyone.living.values():
            member.worker.stop(leave=True)
        await asyncio.gather(*(member.running for member in everyone.living.values()), return_exceptions=True)
