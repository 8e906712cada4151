"""Handing a shard's records to its producer, and knowing what became of them.

A record larger than the broker takes would fail for ever: it is left out, counted, and told to the dead letters by
reference. A changelog record of that size stops the shard instead, because leaving it out would lose state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from ..topics.arrow_buffers import large_binary
from ..topics.batch import Headers, Partition, Records
from ..topics.broker import Producer
from ..topics.dead_letter import PREFIX
from ..topics.errors import RecordTooLargeError
from .commit import Send
from .instrument import Instrument


@dataclass(slots=True)
class Outbox:
    """Of one shard and one producer."""

    dead_letters: Mapping[str, int]
    """Dead-letter topics of the app with their partition counts; the first takes records that are too large."""
    instrument: Instrument
    waiting: list[Send] = field(default_factory=list)
    futures: list[tuple[str | None, int, Awaitable[int]]] = field(default_factory=list)
    """Store and partition of what was handed over."""

    def add(self, sends: Sequence[Send]) -> int:
        """How many sends wait now."""
        self.waiting.extend(sends)
        return len(self.waiting)

    async def hand_over(self, producer: Producer, now_ms: int, *, outputs_first: bool) -> None:
        """Everything that waits, in its order.

        `outputs_first` (at-least-once, where nothing binds the two together): changelog records only after every output
        was acknowledged. Else a crash in between could leave a window that the changelog calls closed and whose result
        was never written.
        """
        waiting, self.waiting = self.waiting, []
        outputs = [send for send in waiting if send.store is None]
        changelog = [send for send in waiting if send.store is not None]
        await self._send(outputs, producer, now_ms)
        if outputs_first and changelog:
            await asyncio.gather(*(future for *_, future in self.futures))
        await self._send(changelog, producer, now_ms)

    async def _send(self, sends: Sequence[Send], producer: Producer, now_ms: int) -> None:
        for send in sends:
            fitted = replace(send, records=_in_kafkas_time(send.records, now_ms))
            try:
                self._follow(fitted, await producer.send(fitted.partition, fitted.records))
            except RecordTooLargeError as error:
                if send.store is not None or not error.rows:
                    raise
                await self._without(producer, fitted, error)

    async def _without(self, producer: Producer, send: Send, error: RecordTooLargeError) -> None:
        """The same records without those that are too large, which are told to the dead letters."""
        large = set(error.rows)
        kept = np.array([row for row in range(len(send.records)) if row not in large], np.int64)
        self.instrument.count(
            "rejected_records", len(large), topic=send.partition.topic, error="too_large", step="send"
        )
        if len(kept):
            rest = replace(send, records=taken(send.records, kept))
            self._follow(rest, await producer.send(rest.partition, rest.records))
        for topic, count in list(self.dead_letters.items())[:1]:
            letters = _by_reference(send, sorted(large), str(error))
            target = Partition(topic, send.partition.index % count)
            self._follow(Send(target, letters), await producer.send(target, letters))

    def _follow(self, send: Send, acknowledged: Awaitable[int]) -> None:
        """Without its records: the producer lets go of them one by one, long before the commit."""
        self.futures.append((send.store, send.partition.index, acknowledged))

    async def acknowledged(self) -> dict[str, dict[int, int]]:
        """Awaits every record; by store and partition the changelog offset behind the last. Raises what a send raised."""
        futures, self.futures = self.futures, []
        ends: dict[str, dict[int, int]] = {}
        for store, partition, future in futures:
            end = await future
            if store is not None:
                ends.setdefault(store, {})[partition] = end
        return ends

    def clear(self) -> None:
        """The producer is gone: nothing of this will ever be there."""
        self.waiting, self.futures = [], []


def taken(records: Records, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Records:
    """Some rows of records."""
    index = pa.array(rows, pa.int64())
    return Records(
        records.keys.take(index) if records.keys is not None else None,
        records.values.take(index),
        records.timestamps[rows] if records.timestamps is not None else None,
        [records.headers[row] for row in rows.tolist()] if records.headers is not None else None,
    )


def _in_kafkas_time(records: Records, now_ms: int) -> Records:
    """Brokers refuse record timestamps below zero and far in the future; event times may be either."""
    if records.timestamps is None:
        return records
    return replace(records, timestamps=np.clip(records.timestamps, 0, now_ms))


def _by_reference(send: Send, rows: Sequence[int], reason: str) -> Records:
    keys = [send.records.keys[row].as_py() if send.records.keys is not None else None for row in rows]
    headers = [_reference(send, row, reason) for row in rows]
    return Records(large_binary(keys), large_binary([None] * len(rows)), headers=headers)


def _reference(send: Send, row: int, reason: str) -> Headers:
    size = len(send.records.values[row].as_py() or b"")
    said = {
        "topic": send.partition.topic,
        "partition": str(send.partition.index),
        "error": "too_large",
        "reason": reason,
        "step": "send",
        "value_bytes": str(size),
    }
    return tuple((PREFIX + name, text.encode()) for name, text in said.items())
