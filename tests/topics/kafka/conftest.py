"""A started `KafkaBroker`, topics of its own, and what a group needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping

import pyarrow as pa
import pytest

from millstream.topics.batch import Fetch, Partition, Records
from millstream.topics.broker import Reader, Share, TopicSpec
from millstream.topics.kafka import KafkaBroker

LONG_S = 60
"""A test that waits so long has failed; none is decided by it."""


@pytest.fixture
async def broker(kafka: str) -> AsyncIterator[KafkaBroker]:
    made = KafkaBroker({"bootstrap.servers": kafka})
    await made.start()
    yield made
    await made.stop()


MakeTopic = Callable[..., Awaitable[str]]


@pytest.fixture
def make_topic(broker: KafkaBroker, unique: Callable[[str], str]) -> MakeTopic:
    async def make(name: str = "t", partitions: int = 1, **spec: object) -> str:
        await broker.create_topics([TopicSpec(unique(name), partitions, **spec)])  # type: ignore[arg-type]
        return unique(name)

    return make


def records(*values: bytes | None) -> Records:
    return Records(None, pa.array(values, pa.large_binary()))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.01)


async def read_all(reader: Reader, positions: Mapping[Partition, int]) -> list[Fetch]:
    """From the positions to the ends as they are now."""
    reader.assign(positions)
    ends = await reader.end_offsets(list(positions))
    found: list[Fetch] = []
    async with asyncio.timeout(LONG_S):
        while any(reader.position(partition) < end for partition, end in ends.items()):
            found += await reader.poll(timeout_ms=500, records_max=10_000)
    return found


async def settled(broker: KafkaBroker, partition: Partition) -> None:
    """Until no transaction is open there: a commit returns before its markers are written."""
    stable, dirty = broker.reader(), broker.reader(isolation="read_uncommitted")
    await stable.start()
    await dirty.start()
    async with asyncio.timeout(LONG_S):
        while await stable.end_offsets([partition]) != await dirty.end_offsets([partition]):
            await asyncio.sleep(0.01)
    await stable.stop()
    await dirty.stop()


async def values_of(broker: KafkaBroker, partition: Partition) -> list[bytes | None]:
    await settled(broker, partition)
    reader = broker.reader()
    await reader.start()
    fetches = await read_all(reader, {partition: 0})
    await reader.stop()
    return [value for fetch in fetches for value in fetch.values]


class Spread:
    """Partitions in turn over the members, by member id."""

    name = "spread"

    def user_data(self) -> bytes:
        return b"hello"

    def received(self, data: bytes) -> None:
        """Nothing is told."""

    def assign(self, members: Mapping[str, bytes], partition_counts: Mapping[str, int]) -> Mapping[str, Share]:
        assert set(members.values()) == {b"hello"}
        everyone = sorted(members)
        everything = [
            Partition(topic, index) for topic in sorted(partition_counts) for index in range(partition_counts[topic])
        ]
        return {member: Share(everything[number :: len(everyone)]) for number, member in enumerate(everyone)}


class Heard:
    """A listener that keeps what it heard."""

    def __init__(self) -> None:
        self.told: list[tuple[str, frozenset[Partition]]] = []
        self.generation = -1

    @property
    def owned(self) -> frozenset[Partition]:
        return self.told[-1][1] if self.told and self.told[-1][0] == "assigned" else frozenset()

    async def revoked(self, partitions: Collection[Partition]) -> None:
        self.told.append(("revoked", frozenset(partitions)))

    async def assigned(self, partitions: Collection[Partition], generation: int) -> None:
        self.told.append(("assigned", frozenset(partitions)))
        self.generation = generation
