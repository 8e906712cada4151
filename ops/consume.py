"""Reads a topic outside any group, for people: which records, and how one is shown."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from ..topics.batch import Fetch, Headers, Partition

if TYPE_CHECKING:
    from ..topics.broker import Broker

POLL_MS: Final = 250
RECORDS_MAX: Final = 5_000
OPEN_WAIT_MS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Shown:
    """One record."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


async def records_of(
    broker: Broker,
    topic: str,
    partitions: int,
    *,
    from_beginning: bool,
    until_end: bool,
    limit: int | None,
    open_wait_ms: int = OPEN_WAIT_MS,
) -> AsyncIterator[Shown]:
    """Committed records, in order a partition. Without `from_beginning` what comes from now on.

    `until_end`: up to the end as it is when reading starts. A transaction that is open there is waited for at most
    `open_wait_ms`: that of a worker which has just ended is committed, and its markers are still being written.
    """
    reader = broker.reader()
    await reader.start()
    left = limit
    try:
        all_of_them = [Partition(topic, index) for index in range(partitions)]
        ends = await _written_ends(broker, all_of_them)
        starts = await (reader.begin_offsets if from_beginning else reader.end_offsets)(all_of_them)
        reader.assign(starts)
        quiet_since = time.monotonic()
        while left != 0 and not (until_end and all(reader.position(one) >= ends[one] for one in all_of_them)):
            fetches = await reader.poll(
                timeout_ms=min(POLL_MS, open_wait_ms) if until_end else POLL_MS, records_max=RECORDS_MAX
            )
            if any(len(fetch) for fetch in fetches):
                quiet_since = time.monotonic()
            elif until_end and time.monotonic() - quiet_since >= open_wait_ms / 1_000:
                committed = await reader.end_offsets(all_of_them)
                if all(reader.position(one) >= min(committed[one], ends[one]) for one in all_of_them):
                    return
            for record in (record for fetch in fetches for record in _shown(fetch)):
                if until_end and record.offset >= ends[Partition(topic, record.partition)]:
                    continue
                yield record
                left = None if left is None else left - 1
                if left == 0:
                    return
    finally:
        await reader.stop()


async def _written_ends(broker: Broker, partitions: list[Partition]) -> dict[Partition, int]:
    """The next offset of each partition, with what is not committed yet."""
    reader = broker.reader(isolation="read_uncommitted")
    await reader.start()
    try:
        return await reader.end_offsets(partitions)
    finally:
        await reader.stop()


def _shown(fetch: Fetch) -> list[Shown]:
    rows = zip(fetch.offsets, fetch.timestamps, fetch.keys, fetch.values, strict=True)
    return [
        Shown(fetch.partition.index, int(offset), int(timestamp), key, value, fetch.headers.get(row, ()))
        for row, (offset, timestamp, key, value) in enumerate(rows)
    ]


def as_json(record: Shown, *, headers: bool) -> bytes:
    """One object: partition, offset, timestamp (ms), key, value; JSON values as they are, else text, else base64."""
    shown: dict[str, Any] = {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": _readable(record.key),
        "value": _value(record.value),
    }
    if headers:
        shown["headers"] = [[name, _readable(value)] for name, value in record.headers]
    return orjson.dumps(shown)


def as_cells(record: Shown, *, headers: bool) -> list[str]:
    """A row of the table."""
    time = datetime.fromtimestamp(record.timestamp / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    cells = [str(record.partition), str(record.offset), time, _text(record.key), _text(record.value)]
    if headers:
        cells.append(" ".join(f"{name}={_text(value)}" for name, value in record.headers))
    return cells


def _value(value: bytes | None) -> Any:
    try:
        return None if value is None else orjson.loads(value)
    except orjson.JSONDecodeError:
        return _readable(value)


def _readable(value: bytes | None) -> Any:
    """Text where it is UTF-8, else `{"base64": ...}`."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value or b"").decode()}


def _text(value: bytes | None) -> str:
    shown = _readable(value)
    return "null" if shown is None else shown if isinstance(shown, str) else f"base64 {shown['base64']}"
