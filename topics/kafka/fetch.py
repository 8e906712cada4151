"""Columns from what a fetch answered: record batches in, one list of values (and keys, offsets, times) out.

The stock path makes an object of eleven fields a record (2.0-2.5 us); here the C parser's records live only inside
comprehensions. Batches are split and their headers read by ourselves, so that aborted and control batches are skipped
without being decompressed, and offsets without gaps are a range. What is given out is what the stock path gives: the test
`tests/topics/kafka/test_fetch.py` compares the two on random logs.

    for each whole batch:  checksum -> start aborted transactions up to its base offset -> end one at an abort marker
                           -> skip it if its producer's transaction was aborted, or if it is a control batch
                           -> records from the fetch's offset on; the position becomes the offset after the batch,
                              whatever compaction left of it
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from operator import attrgetter
from typing import Any, Final

import cramjam
import google_crc32c
import numpy as np
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from numpy.typing import NDArray

from ...native.records import ParsedRecords, joined, parse_records
from ..batch import Fetch, Headers, Partition
from ..errors import BrokerUnavailableError, ConfigurationError
from ..record_batch import HEADER_BYTES

_LENGTH: Final = struct.Struct(">i")
_V2: Final = struct.Struct(">qiibIhiqqqhii")
_LOG_OVERHEAD: Final = 12
_MAGIC_AT: Final = 16
_CRC_FROM: Final = 21
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
_LOG_APPEND_TIME: Final = 0x08
_COMPRESSION: Final = 0x07

_ROW_BYTES: Final = 30
"""Reckoned for key, offset and time of a record."""

# Records are garbage-collected objects: more than 700 alive at a time start the collector again and again.
_PARSED_AT_ONCE: Final = 256

_headers_of: Final = attrgetter("headers")


_DECOMPRESSORS: Final[dict[int, Callable[[memoryview], Any]]] = {
    0: lambda body: body,
    1: cramjam.gzip.decompress,
    3: cramjam.lz4.decompress,
    4: cramjam.zstd.decompress,
}
"""By Kafka's number; snappy (2), in its Java framing, is left to aiokafka."""


@dataclass(slots=True)
class _Columns:
    """Keys and values gather as slices of uncompressed batches, or as Python bytes once one batch had to be read so."""

    slices: list[ParsedRecords] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    offsets: list[NDArray[np.int64]] = field(default_factory=list)
    timestamps: list[NDArray[np.int64]] = field(default_factory=list)
    headers: dict[int, Headers] = field(default_factory=dict)
    count: int = 0
    size_bytes: int = 0
    """Estimated from one value a batch."""

    def add_slices(self, parsed: ParsedRecords) -> None:
        if self.values:
            self.keys += parsed.keys
            self.values += parsed.values
        else:
            self.slices.append(parsed)
        self.added(len(parsed.values), max(int(parsed.values.lengths[-1]), 0))

    def spread(self) -> None:
        """Everything as Python bytes from now on."""
        for parsed in self.slices:
            self.keys += parsed.keys
            self.values += parsed.values
        self.slices.clear()

    def added(self, count: int, value_bytes: int) -> None:
        self.count += count
        self.size_bytes += count * (value_bytes + _ROW_BYTES)

    def keys_and_values(self) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        if not self.slices:
            return self.keys, self.values
        whole = joined(self.slices)
        return whole.keys, whole.values


class RecordSet:
    """What one fetch brought of one partition and is not given out yet."""

    def __init__(
        self,
        partition: Partition,
        buffer: bytes,
        *,
        fetch_offset: int,
        end_offset: int,
        aborted: Sequence[tuple[int, int]] | None,
        read_committed: bool,
        check_crcs: bool,
    ) -> None:
        """`aborted`: (producer id, first offset) of each aborted transaction, as the broker answered."""
        self.partition = partition
        self.next_offset = fetch_offset
        self.end_offset = end_offset
        self._buffer = memoryview(buffer)
        self._at = 0
        self._aborted = sorted(aborted or (), key=lambda entry: entry[1])
        self._aborted_from = 0
        self._aborting: set[int] = set()
        self._read_committed = read_committed
        self._check_crcs = check_crcs

    @property
    def exhausted(self) -> bool:
        """Whether no whole batch is left. The broker may cut the last one off; it comes again."""
        return self._batch_end() is None

    def take(self, *, records_max: int, bytes_max: int) -> Fetch:
        """Whole batches until about that many records or bytes; possibly none, with the position moved.

        Raises BrokerUnavailableError for a checksum that does not fit (the fetch is to be repeated).
        """
        first = self.next_offset
        columns = _Columns()
        while columns.count < records_max and columns.size_bytes < bytes_max:
            end = self._batch_end()
            if end is None:
                break
            batch = self._buffer[self._at : end]
            self._at = end
            if batch[_MAGIC_AT] >= 2:
                self._read_batch(batch, columns)
            else:
                self._read_legacy(batch, columns)
        keys, values = columns.keys_and_values()
        return Fetch(
            partition=self.partition,
            first_offset=first,
            next_offset=self.next_offset,
            end_offset=self.end_offset,
            keys=keys,
            values=values,
            offsets=_joined(columns.offsets),
            timestamps=_joined(columns.timestamps),
            headers=columns.headers,
        )

    def check_not_cut(self) -> None:
        """Raises ConfigurationError where not even one whole batch came (brokers older than 0.10.1)."""
        if self.exhausted and len(self._buffer):
            raise ConfigurationError(
                f"{self.partition}: the batch at offset {self.next_offset} is larger than max.partition.fetch.bytes; "
                "raise it"
            )

    def _batch_end(self) -> int | None:
        if len(self._buffer) - self._at < _LOG_OVERHEAD + _MAGIC_AT:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, self._at + 8)
        end: int = self._at + _LOG_OVERHEAD + length
        return end if end <= len(self._buffer) else None

    def _read_batch(self, batch: memoryview, columns: _Columns) -> None:
        (base, _, _, _, crc, attributes, last_delta, first_ms, max_ms, producer, _, _, count) = _V2.unpack_from(batch)
        if self._check_crcs and google_crc32c.value(bytes(batch[_CRC_FROM:])) != crc:
            raise BrokerUnavailableError(f"{self.partition}: the checksum of the batch at offset {base} is wrong")
        after = base + last_delta + 1
        skipped = self._is_aborted(batch, base, attributes, producer) or attributes & _CONTROL
        if count and after > self.next_offset and not skipped:
            known_ms = max_ms if attributes & _LOG_APPEND_TIME else first_ms if count == 1 else None
            parsed = _parsed(batch, attributes, count)
            if parsed is not None:
                self._append_slices(parsed, columns, base, first_ms, known_ms)
            else:
                start = max(self.next_offset - base, 0)
                without_gaps = count == last_delta + 1
                stored = bytes(batch)
                columns.spread()
                if start or not without_gaps or not _append_plain(stored, count, columns, base, known_ms):
                    self._append(DefaultRecordBatch(stored), columns, base if without_gaps else None, start, known_ms)
        self.next_offset = max(after, self.next_offset)

    def _is_aborted(self, batch: memoryview, base: int, attributes: int, producer: int) -> bool:
        if not self._read_committed:
            return False
        while self._aborted_from < len(self._aborted) and self._aborted[self._aborted_from][1] <= base:
            self._aborting.add(self._aborted[self._aborted_from][0])
            self._aborted_from += 1
        if attributes & _CONTROL:
            marker = next(iter(DefaultRecordBatch(bytes(batch))))
            if ControlRecord.parse(marker.key) == ABORT_MARKER:
                self._aborting.discard(producer)
            return False
        return bool(attributes & _TRANSACTIONAL) and producer in self._aborting

    def _read_legacy(self, batch: memoryview, columns: _Columns) -> None:
        """Message formats 0 and 1, which brokers before 4.0 may still have on disk."""
        parsed = LegacyRecordBatch(bytes(batch), batch[_MAGIC_AT])
        if self._check_crcs and not parsed.validate_crc():
            raise BrokerUnavailableError(f"{self.partition}: a checksum after offset {self.next_offset} is wrong")
        no_time = -1 if batch[_MAGIC_AT] == 0 else None  # format 0 knows no timestamps; -1 is what Kafka gives then
        self._append(parsed, columns, None, self.next_offset, no_time)
        self.next_offset = max(parsed.next_offset, self.next_offset)

    def _append_slices(
        self, parsed: ParsedRecords, columns: _Columns, base: int, first_ms: int, known_ms: int | None
    ) -> None:
        offsets = parsed.offsets + base
        times = parsed.times + first_ms if known_ms is None else np.full(len(offsets), known_ms, np.int64)
        first = int(np.searchsorted(offsets, self.next_offset))
        if first == len(offsets):
            return
        columns.offsets.append(offsets[first:])
        columns.timestamps.append(times[first:])
        columns.add_slices(
            ParsedRecords(parsed.keys[first:], parsed.values[first:], parsed.times[first:], parsed.offsets[first:])
        )

    def _append(self, parsed: Any, columns: _Columns, base: int | None, start: int, known_ms: int | None) -> None:
        """`base`: the first record's offset where offsets have no gaps; then `start` counts records, else it is unused
        and records below the position are left out one by one."""
        records = chain(parsed)
        row = len(columns.values)
        first_row = row
        if base is not None and start:
            next(islice(records, start - 1, start), None)
        while some := list(islice(records, _PARSED_AT_ONCE)):
            if base is None:
                some = [record for record in some if record.offset >= self.next_offset]
                columns.offsets.append(np.array([record.offset for record in some], np.int64))
            columns.values += [record.value for record in some]
            columns.keys += [record.key for record in some]
            if known_ms is None:
                columns.timestamps.append(np.array([record.timestamp for record in some], np.int64))
            if any(map(_headers_of, some)):
                columns.headers |= {row + at: tuple(record.headers) for at, record in enumerate(some) if record.headers}
            row += len(some)
        added = row - first_row
        if base is not None:
            columns.offsets.append(np.arange(base + start, base + start + added, dtype=np.int64))
        if known_ms is not None:
            columns.timestamps.append(np.full(added, known_ms, np.int64))
        if added:
            columns.added(added, len(columns.values[first_row + added // 2] or b""))


def _append_plain(stored: bytes, count: int, columns: _Columns, base: int, known_ms: int | None) -> bool:
    """A batch of which all records are wanted, in one pass over them: 0.28 us against 0.33 by columns, since each record is
    gone before the next is made. A record with headers falls out of the comprehension; if one did, nothing is appended
    and the answer is False."""
    keys: list[bytes | None] = []
    times: list[int] = []
    keep_key: Callable[[bytes | None], object] = keys.append  # both give None, so that `or` goes on
    keep_time: Callable[[int], object] = times.append
    parsed = DefaultRecordBatch(stored)
    if known_ms is None:
        values = [r.value for r in parsed if not (keep_time(r.timestamp) or keep_key(r.key) or r.headers)]
    else:
        values = [r.value for r in parsed if not (keep_key(r.key) or r.headers)]
    if len(values) != count:
        return False
    columns.values += values
    columns.keys += keys
    columns.offsets.append(np.arange(base, base + count, dtype=np.int64))
    columns.timestamps.append(np.array(times, np.int64) if known_ms is None else np.full(count, known_ms, np.int64))
    columns.added(count, len(values[count // 2] or b""))
    return True


def _parsed(batch: memoryview, attributes: int, count: int) -> ParsedRecords | None:
    """The records by the native library; None where aiokafka is to read them, or to say what is wrong with them."""
    decompress = _DECOMPRESSORS.get(attributes & _COMPRESSION)
    if decompress is None:
        return None
    try:
        body = np.frombuffer(decompress(batch[HEADER_BYTES:]), np.uint8)
    except (cramjam.DecompressionError, ValueError):
        return None
    parsed = parse_records(body, count)
    ordered = parsed is not None and bool((np.diff(parsed.offsets) > 0).all())
    return parsed if ordered else None


def _joined(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def moved(partition: Partition, position: int, end_offset: int) -> Fetch:
    """A fetch without records: the position moved, or the partition has become caught up."""
    nothing = np.empty(0, np.int64)
    return Fetch(partition, position, position, end_offset, [], [], nothing, nothing)
