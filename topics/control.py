"""Control records: how an upstream task tells its watermark through a repartition topic (semantics.md, section 1).

A control record has a null key, an empty value, and one header `__watermark` with JSON bytes

    {"from": "<sub-topology>", "shard": 3, "watermark": 123, "idle": false}

The same header may ride on a data record, which then stays data. What it says holds for everything the writer sent before
it, and for the record it rides on. A header that cannot be read is not ours: its record is treated as data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from ..native.records import ByteSlices
from .arrow_buffers import large_binary
from .batch import Fetch, Headers, Records

HEADER: Final = "__watermark"


@dataclass(frozen=True, slots=True)
class ControlRecord:
    """What one writer says about its time."""

    writer: str
    """Name of the sub-topology that writes."""
    shard: int
    watermark: int
    """Milliseconds; `MAX_TIME` when its input has ended."""
    idle: bool = False
    position: int = 0
    """Of one that was read: number of data rows of the fetch that came before it, the one it rides on included."""


def control_header(record: ControlRecord) -> Headers:
    """The header, to ride on a data record."""
    said = {"from": record.writer, "shard": record.shard, "watermark": record.watermark, "idle": record.idle}
    return ((HEADER, orjson.dumps(said)),)


def control_records(records: Sequence[ControlRecord], timestamp_ms: int | None = None) -> Records:
    """Control records of their own, for one partition."""
    count = len(records)
    timestamps = None if timestamp_ms is None else np.full(count, timestamp_ms, dtype=np.int64)
    return Records(None, large_binary([b""] * count), timestamps, [control_header(record) for record in records])


def split_control(fetch: Fetch) -> tuple[Fetch, list[ControlRecord]]:
    """The fetch without its control records (offsets of the whole are kept), and what they say, in order.

    Costs nothing where no record has headers.
    """
    if not fetch.headers:
        return fetch, []
    found: list[tuple[int, ControlRecord]] = []
    alone: list[int] = []
    for row in sorted(fetch.headers):
        record = _read(fetch.headers[row])
        if record is not None:
            found.append((row, record))
            if fetch.keys[row] is None and not fetch.values[row]:
                alone.append(row)
    if not found:
        return fetch, []
    removed = np.zeros(len(fetch) + 1, dtype=np.int64)
    removed[np.array(alone, dtype=np.int64) + 1] = 1
    before = np.arange(len(fetch) + 1) - np.cumsum(removed)
    said = [replace(record, position=int(before[row + 1])) for row, record in found]
    return (taken(fetch, np.flatnonzero(removed[1:] == 0)) if alone else fetch), said


def taken(fetch: Fetch, rows: NDArray[np.int64]) -> Fetch:
    """These rows (ascending) of a fetch, with the offsets of the whole."""
    picked = rows.tolist()
    number_of = {row: number for number, row in enumerate(picked) if row in fetch.headers}
    return replace(
        fetch,
        keys=_taken(fetch.keys, rows),
        values=_taken(fetch.values, rows),
        offsets=fetch.offsets[rows],
        timestamps=fetch.timestamps[rows],
        headers={number: fetch.headers[row] for row, number in number_of.items()},
    )


def _taken(column: Sequence[bytes | None], rows: NDArray[np.int64]) -> Sequence[bytes | None]:
    return column.taken(rows) if isinstance(column, ByteSlices) else [column[row] for row in rows.tolist()]


def _read(headers: Headers) -> ControlRecord | None:
    """What the last of these headers named `__watermark` says; None where there is none that can be read."""
    for name, value in reversed(headers):
        if name == HEADER:
            return _parsed(value)
    return None


def _parsed(value: bytes | None) -> ControlRecord | None:
    try:
        said: Any = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    if type(said) is not dict:
        return None
    writer, shard, watermark, idle = (said.get(name) for name in ("from", "shard", "watermark", "idle"))
    if type(writer) is not str or type(shard) is not int or type(watermark) is not int or type(idle) is not bool:
        return None
    return ControlRecord(writer, shard, watermark, idle)
