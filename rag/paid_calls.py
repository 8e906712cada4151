"""What paid calls gave, told to everybody who answers before anything depends on it: whoever is killed between a model's reply
and the commit of its answer has not paid for nothing.

    <app>.paid-calls (one partition, `delete`)    key: the hash of all that the call depends on (`completions.py`)
                                                  value: who asked, and what came of it

The cache of calls (`call_cache.py`) is committed with the answer, and answers are committed in the order of their questions: behind
a slow one as many as `concurrency_max` paid calls wait. So each is written to this topic at once, outside of the transaction, and
the answer goes on when the broker has it. All answering workers read the topic's last hour at their start and follow it; whoever
takes a shard over finds there what its predecessor had paid for. What cannot be known is a call whose reply had not come when the
worker died.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import pyarrow as pa

from ..topics.batch import Partition, Records
from ..topics.broker import Broker, Reader, TopicSpec
from ..topics.ensure import ensure_topic
from ..topics.errors import TopicsError
from .following import LazyProducer, kept_up
from .settings import PaidCallSettings

_LOG: Final = logging.getLogger(__name__)
_TROUBLE: Final = (TopicsError, TimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class PaidCall:
    """`asker`: the id of the query it was for."""

    asker: str
    result: bytes


class PaidElsewhere(Protocol):
    """Where paid calls are told and found."""

    async def find(self, key: bytes) -> PaidCall | None: ...

    async def tell(self, key: bytes, call: PaidCall) -> None:
        """Returns when others will find it, or when that could not be achieved in time: an answer does not fail for it."""
        ...


class NoPaidCalls:
    """Nothing is told, and nothing found."""

    async def find(self, key: bytes) -> PaidCall | None:
        return None

    async def tell(self, key: bytes, call: PaidCall) -> None:
        """Nobody hears it."""


MakePaid = Callable[[], "PaidCalls | None"]
"""Of the process that a step runs in; None: nothing is told."""


def nobody() -> None:
    """Where no broker is bound, nothing is told."""


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class PaidCalls:
    """Of one process. `run` it as a task; without the rights to make or write the topic it warns once, and answers go on without it."""

    def __init__(
        self, broker: Broker, topic: str, settings: PaidCallSettings, clock_ms: Callable[[], int] = _wall_ms
    ) -> None:
        self._broker = broker
        self._partition = Partition(topic, 0)
        self._settings = settings
        self._clock_ms = clock_ms
        self._known: OrderedDict[bytes, PaidCall] = OrderedDict()
        self._read_up = asyncio.Event()
        self._producer = LazyProducer(broker)

    async def find(self, key: bytes) -> PaidCall | None:
        """Waits until what was told before the start is read, `ready_timeout_ms` at most."""
        try:
            async with asyncio.timeout(self._settings.ready_timeout_ms / 1000):
                await self._read_up.wait()
        except TimeoutError:
            _LOG.warning("%s could not be read in time: a call may be paid for twice", self._partition.topic)
            self._read_up.set()
        return self._known.get(key)

    async def tell(self, key: bytes, call: PaidCall) -> None:
        await self.tell_all({key: call})

    async def tell_all(self, calls: Mapping[bytes, PaidCall]) -> None:
        """As `tell`, of several by key."""
        for key, call in calls.items():
            self._note(key, call)
        values = pa.array(map(_value_of, calls.values()), pa.large_binary())
        records = Records(pa.array(calls, pa.large_binary()), values)
        try:
            async with asyncio.timeout(self._settings.tell_timeout_ms / 1000):
                await self._read_up.wait()  # the topic is there
                await self._send(records)
        except _TROUBLE as error:
            _LOG.warning("a paid call could not be told to the other workers: %s: %s", type(error).__name__, error)

    async def _send(self, records: Records) -> None:
        producer = await self._producer.get()
        try:
            await (await producer.send(self._partition, records))
        except (*_TROUBLE, asyncio.CancelledError):
            await self._producer.give_up(producer)
            raise

    def _note(self, key: bytes, call: PaidCall) -> None:
        self._known[key] = call
        self._known.move_to_end(key)
        while len(self._known) > self._settings.entries_max:
            self._known.popitem(last=False)

    async def run(self) -> None:
        """Reads what was told in the last `retention_ms`, then follows. Ends when it may not read."""
        try:
            await kept_up(self._partition.topic, self._follow, self._settings.retry_pause_ms)
        except TopicsError as error:
            _LOG.warning("paid calls are not shared between workers: %s", error)
            self._read_up.set()
        finally:
            await self._producer.close()

    async def _follow(self) -> None:
        config = {"retention.ms": str(self._settings.retention_ms)}
        await ensure_topic(self._broker, TopicSpec(self._partition.topic, 1, config=config))
        reader = self._broker.reader(isolation="read_uncommitted")
        await reader.start()
        try:
            since_ms = self._clock_ms() - self._settings.retention_ms
            begin = (await reader.offsets_at([self._partition], since_ms))[self._partition]
            end = (await reader.end_offsets([self._partition]))[self._partition]
            reader.assign({self._partition: max(begin, end - self._settings.entries_max)})
            while True:
                if reader.position(self._partition) >= end:
                    self._read_up.set()
                await self._read(reader)
        finally:
            await reader.stop()

    async def _read(self, reader: Reader) -> None:
        for fetch in await reader.poll(
            timeout_ms=self._settings.poll_timeout_ms, records_max=self._settings.poll_records_max
        ):
            for key, value in zip(fetch.keys, fetch.values, strict=True):
                if key is not None and (call := _call_of(value)) is not None:
                    self._note(key, call)


def _value_of(call: PaidCall) -> bytes:
    asker = call.asker.encode()
    return len(asker).to_bytes(4) + asker + call.result


def _call_of(value: bytes | None) -> PaidCall | None:
    """None for what we did not write."""
    if value is None or len(value) < 4 or len(value) < (end := 4 + int.from_bytes(value[:4])):
        return None
    try:
        return PaidCall(value[4:end].decode(), value[end:])
    except UnicodeDecodeError:
        return None
