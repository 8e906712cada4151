"""What the broker's contract tests share. Nothing here depends on time but limits after which a test has failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np

from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Fetch, Headers, Partition, Records
from millstream.topics.broker import Broker, GroupConsumer, Isolation, Producer, Reader, Share, TopicSpec
from tests.polling import LIMIT_S, until

__all__ = [
    "LIMIT_S",
    "Heard",
    "InTurn",
    "dies",
    "new_topic",
    "polled",
    "read_to_end",
    "records",
    "started",
    "until",
    "values_in",
    "values_of",
    "write",
]

T = TypeVar("T", bound=Producer | Reader | GroupConsumer)


def records(
    *values: bytes | None,
    keys: Sequence[bytes | None] | None = None,
    timestamps: Sequence[int] | None = None,
    headers: Sequence[Headers] | None = None,
) -> Records:
    return Records(
        None if keys is None else large_binary(keys),
        large_binary(values),
        None if timestamps is None else np.array(timestamps, dtype=np.int64),
        headers,
    )


async def new_topic(broker: Broker, name: str, partitions: int = 1, **more: Any) -> list[Partition]:
    await broker.create_topics([TopicSpec(name, partitions, 1, **more)])
    return [Partition(name, index) for index in range(partitions)]


@asynccontextmanager
async def started(client: T) -> AsyncIterator[T]:
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def write(broker: Broker, partition: Partition, *values: bytes | None, **more: Any) -> int:
    """Outside any transaction; the offset after the last."""
    async with started(broker.producer()) as producer:
        return await (await producer.send(partition, records(*values, **more)))


async def read_to_end(
    broker: Broker, partition: Partition, *, isolation: Isolation = "read_committed", start: int = 0
) -> list[Fetch]:
    """All fetches from `start` until the position has reached the end."""
    async with started(broker.reader(isolation=isolation)) as reader:
        end = (await reader.end_offsets([partition]))[partition]
        reader.assign({partition: start})
        fetches: list[Fetch] = []
        async with asyncio.timeout(LIMIT_S):
            while reader.position(partition) < end:
                fetches += await reader.poll(timeout_ms=200, records_max=10_000)
        return fetches


def values_of(fetches: Sequence[Fetch]) -> list[bytes | None]:
    return [value for fetch in fetches for value in fetch.values]


async def values_in(
    broker: Broker, partition: Partition, isolation: Isolation = "read_committed"
) -> list[bytes | None]:
    return values_of(await read_to_end(broker, partition, isolation=isolation))


async def polled(reader: Reader, enough: Callable[[list[Fetch]], bool], **more: Any) -> list[Fetch]:
    """Polls until the fetches so far are enough."""
    fetches: list[Fetch] = []
    async with asyncio.timeout(LIMIT_S):
        while not enough(fetches):
            fetches += await reader.poll(**{"timeout_ms": 200, "records_max": 10_000, **more})
    return fetches


class InTurn:
    """An assignor that deals partitions out in order, to members sorted by their user data, and tells each its turn."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.told: list[dict[str, bytes]] = []
        self.heard: list[bytes] = []

    @property
    def name(self) -> str:
        return "in-turn"

    def user_data(self) -> bytes:
        return self.data

    def assign(self, members: Mapping[str, bytes], partition_counts: Mapping[str, int]) -> Mapping[str, Share]:
        self.told.append(dict(members))
        order = sorted(members, key=lambda member: (members[member], member))
        everything = [Partition(topic, at) for topic, count in sorted(partition_counts.items()) for at in range(count)]
        return {member: Share(everything[turn :: len(order)], b"turn %d" % turn) for turn, member in enumerate(order)}

    def received(self, data: bytes) -> None:
        self.heard.append(data)


class Heard:
    """A listener that keeps what it was told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, frozenset[Partition]]] = []
        self.owned: frozenset[Partition] = frozenset()
        self.generation = -1
        self._changed = asyncio.Event()

    async def revoked(self, partitions: frozenset[Partition]) -> None:
        self.events.append(("revoked", partitions))
        self.owned = frozenset()
        self._tell()

    async def assigned(self, partitions: frozenset[Partition], generation: int) -> None:
        self.events.append(("assigned", partitions))
        self.owned, self.generation = partitions, generation
        self._tell()

    async def owns(self, partitions: Collection[Partition]) -> None:
        """Waits until exactly these are owned."""
        await self.until(lambda: self.owned == frozenset(partitions) and self.generation >= 0)

    async def until(self, so: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not so():
                self._changed.clear()
                await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()


async def dies(consumer: GroupConsumer) -> Exception:
    """Waits until the membership has ended, and says of what."""
    found: list[Exception] = []

    async def dead() -> bool:
        try:
            consumer.raise_if_dead()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            found.append(error)
        return bool(found)

    await until(dead)
    return found[0]
