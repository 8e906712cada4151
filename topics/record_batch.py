"""Kafka record batches (format v2, magic 2) built from columns, without a Python object a record.

    base offset int64 | length int32 | leader epoch int32 | magic int8 | crc32c uint32 | attributes int16
    last offset delta int32 | first and max timestamp int64 | producer id int64 | epoch int16 | base sequence int32
    count int32 | records, compressed as a whole

    record: length | attributes int8 | timestamp delta | offset delta | key length | key | value length | value
            | header count | (name length | name | value length | value)*      all numbers zigzag varints, -1 is null

The records are one element-wise join of columns of bytes (pyarrow): 0.09 us a record against 0.26 for aiokafka's builder.
The checksum covers everything from the attributes on, so it is computed when the producer's numbers are known (`stamp`).

Does not know a client: the Kafka producer wraps `RecordBatch` in what its sender asks for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, Literal

import cramjam
import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..native.records import RecordColumns, build_records
from .batch import Headers, Records
from .errors import ConfigurationError, RecordTooLargeError

Compression = Literal["none", "lz4", "zstd"]

HEADER_BYTES: Final = 61
"""Length of everything before the records."""

RECORD_OVERHEAD_BYTES: Final = 21
"""At most this much is added to key, value and headers of a record by the format (as the Java client reckons)."""

_TRANSACTIONAL: Final = 0x10
_TABLE_SIZE: Final = 1 << 18
_BINARY: Final = pa.large_binary()
_NO_HEADERS: Final = b"\x00"
_NULL: Final = b"\x01"  # zigzag of -1
_HEAD: Final = struct.Struct(">qiibI")
_TAIL: Final = struct.Struct(">hiqqqhii")


def _zstd(body: bytes | memoryview) -> bytes:
    return bytes(cramjam.zstd.compress(body, level=1))


def _lz4(body: bytes | memoryview) -> bytes:
    # Level 1 costs a fifth of aiokafka's level 9; Kafka's readers need independent blocks.
    compressor = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)
    compressor.compress(bytes(body))
    return bytes(compressor.finish())


_COMPRESSORS: Final[dict[str, tuple[int, Callable[[bytes | memoryview], bytes]]]] = {
    "none": (0, bytes),
    "lz4": (3, _lz4),
    "zstd": (4, _zstd),
}


class RecordBatch:
    """One batch, ready but for the producer's numbers."""

    __slots__ = ("_attributes", "_body", "_first_ms", "_last_ms", "_stamp", "count")

    def __init__(self, body: bytes, count: int, first_ms: int, last_ms: int, attributes: int) -> None:
        self.count = count
        self._body = body
        self._attributes = attributes
        self._first_ms = first_ms
        self._last_ms = last_ms
        self._stamp = (-1, -1, -1)

    @property
    def size_bytes(self) -> int:
        """On the wire."""
        return HEADER_BYTES + len(self._body)

    def stamp(self, producer_id: int, epoch: int, base_sequence: int) -> None:
        """Who sends it; changes the checksum."""
        self._stamp = (producer_id, epoch, base_sequence)

    def to_bytes(self) -> bytes:
        tail = _TAIL.pack(self._attributes, self.count - 1, self._first_ms, self._last_ms, *self._stamp, self.count)
        crc = google_crc32c.extend(google_crc32c.value(tail), self._body)
        return _HEAD.pack(0, len(self._body) + HEADER_BYTES - 12, -1, 2, crc) + tail + self._body


def record_batches(
    records: Records,
    *,
    now_ms: int,
    compression: Compression = "lz4",
    transactional: bool = False,
    rows_max: int = 8_000,
    batch_bytes_max: int = 1 << 19,
    record_bytes_max: int = 1 << 20,
) -> list[RecordBatch]:
    """All records, in their order, cut into batches of at most `rows_max` rows and about `batch_bytes_max` bytes
    before compression (a single larger record gets a batch of its own).

    Raises RecordTooLargeError naming the rows above `record_bytes_max` (before compression, as the Java client's
    `max.request.size`); then none of the records has a batch.
    """
    if len(records) == 0:
        return []
    codec = _COMPRESSORS.get(compression)
    if codec is None:
        raise ConfigurationError(f"compression {compression!r}: one of {', '.join(_COMPRESSORS)}")
    attributes, compress = codec
    keys = None if records.keys is None else _as_binary(records.keys)
    values = _as_binary(records.values)
    headers = None if records.headers is None else _header_bytes(records.headers)
    sizes = _payload_sizes(keys, values, headers) + RECORD_OVERHEAD_BYTES
    _refuse_too_large(sizes, record_bytes_max)
    stamps = None if records.timestamps is None else np.ascontiguousarray(records.timestamps, np.int64)
    columns = RecordColumns(keys, values, headers, stamps)
    flags = attributes | (_TRANSACTIONAL if transactional else 0)
    batches = []
    for start, end in _cuts(sizes, rows_max, batch_bytes_max):
        first_ms, last_ms = (now_ms, now_ms) if stamps is None else (int(stamps[start]), int(stamps[start:end].max()))
        rows, payload = range(start, end), int(sizes[start:end].sum())
        body = build_records(columns, rows, first_ms, payload) or _body(columns, rows, first_ms)
        batches.append(RecordBatch(compress(body), end - start, first_ms, last_ms, flags))
    return batches


def _as_binary(column: Any) -> pa.LargeBinaryArray:
    binary: pa.LargeBinaryArray = column if column.type == _BINARY else column.cast(_BINARY)
    return binary


def _payload_sizes(
    keys: pa.LargeBinaryArray | None, values: pa.LargeBinaryArray, headers: pa.LargeBinaryArray | None
) -> NDArray[np.int64]:
    sizes = _lengths(values).clip(min=0)
    for column in (keys, headers):
        if column is not None:
            sizes = sizes + _lengths(column).clip(min=0)
    return sizes


def _refuse_too_large(sizes: NDArray[np.int64], record_bytes_max: int) -> None:
    if sizes.max() <= record_bytes_max:
        return
    rows = np.flatnonzero(sizes > record_bytes_max).tolist()
    raise RecordTooLargeError(
        f"row {rows[0]} has {int(sizes[rows[0]]):,} bytes ({len(rows)} such rows), the limit is {record_bytes_max:,}; "
        "send a reference instead, or raise max.request.size and the topic's max.message.bytes",
        rows=rows,
    )


def _cuts(sizes: NDArray[np.int64], rows_max: int, bytes_max: int) -> list[tuple[int, int]]:
    ends = np.cumsum(sizes)
    cuts = []
    start = 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        fits = int(np.searchsorted(ends, before + bytes_max, side="right"))
        end = min(max(fits, start + 1), start + rows_max, len(sizes))
        cuts.append((start, end))
        start = end
    return cuts


def _body(columns: RecordColumns, rows: range, first_ms: int) -> bytes | memoryview:
    """These rows as records, where the native library is missing."""
    count = len(rows)
    deltas = np.zeros(1, np.int64) if columns.times is None else columns.times[rows.start : rows.stop] - first_ms
    head, length = _stamps_and_offsets(deltas, count)
    parts: list[Any] = [*head]
    keys, values, headers = (None if one is None else one[rows.start : rows.stop] for one in columns[:3])
    for column in (keys, values):
        if column is None:
            parts.append(pa.scalar(_NULL, _BINARY))
            length = length + 1
            continue
        lengths = _lengths(column)
        numbers, sizes = _varints(_zigzag(lengths))
        parts += [numbers, column]
        length = length + sizes + lengths.clip(min=0)
    if headers is not None:
        return _bytes_of(_join(_varints(_zigzag(length + _lengths(headers)))[0], *parts, headers)).tobytes()
    # Each part of a join costs 0.01 us a record: the "no headers" that ends a record is written before the next instead.
    joined = _bytes_of(_join(_after_no_headers(_zigzag(length + 1)), *parts))
    return b"".join([joined[1:], _NO_HEADERS])


def _bytes_of(column: Any) -> memoryview:
    ends = np.frombuffer(column.buffers()[1], np.int64)
    return memoryview(column.buffers()[2])[ends[column.offset] : ends[column.offset + len(column)]]


def _join(*parts: Any) -> Any:
    """Row by row; a scalar is the same in each row, a null is nothing."""
    join: Any = pc.binary_join_element_wise  # the stubs know no mixture of arrays and scalars
    nothing = pa.scalar(b"", _BINARY)
    if any(isinstance(part, pa.Array) and part.null_count for part in parts):
        return join(*parts, nothing, null_handling="replace", null_replacement=b"")
    return join(*parts, nothing)


def _stamps_and_offsets(deltas: NDArray[np.int64], count: int) -> tuple[list[Any], NDArray[np.int64]]:
    """Attributes, timestamp delta and offset delta of each record, and their length."""
    if not deltas.any():
        prefixed, sizes = _flat_heads(count)
        return [prefixed], sizes
    stamps, stamp_sizes = _varints(_zigzag(deltas))
    offsets, offset_sizes = _varints(_zigzag(np.arange(count, dtype=np.int64)))
    return [pa.scalar(b"\x00", _BINARY), stamps, offsets], 1 + stamp_sizes + offset_sizes


def _lengths(column: pa.LargeBinaryArray) -> NDArray[np.int64]:
    """-1 for nulls."""
    lengths: Any = pc.binary_length(column)
    if lengths.null_count:
        lengths = lengths.fill_null(-1)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), np.int64)


def _zigzag(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    return ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)


def _varints(numbers: NDArray[np.uint64]) -> tuple[pa.LargeBinaryArray, NDArray[np.int64]]:
    """The varints and their sizes."""
    if numbers.max(initial=0) < _TABLE_SIZE:
        table, sizes = _varint_table()
        index = numbers.view(np.int64)
        taken: Any = table.take(pa.array(index))  # type: ignore[arg-type]
        return taken, sizes[index]
    return _write_varints(numbers)


def _after_no_headers(numbers: NDArray[np.uint64]) -> Any:
    """The varints, each behind an empty list of headers."""
    if numbers.max(initial=0) < _TABLE_SIZE:
        return _after_no_headers_table().take(pa.array(numbers.view(np.int64)))
    return _join(pa.scalar(_NO_HEADERS, _BINARY), _write_varints(numbers)[0])


@cache
def _after_no_headers_table() -> Any:
    return _join(pa.scalar(_NO_HEADERS, _BINARY), _varint_table()[0])


@cache
def _varint_table() -> tuple[pa.LargeBinaryArray, NDArray[np.int64]]:
    return _write_varints(np.arange(_TABLE_SIZE, dtype=np.uint64))


@cache
def _flat_head_table(count: int) -> tuple[pa.LargeBinaryArray, NDArray[np.int64]]:
    offsets, sizes = _varints(_zigzag(np.arange(count, dtype=np.int64)))
    flat = _join(pa.scalar(b"\x00\x00", _BINARY), offsets)
    return flat, sizes + 2


def _flat_heads(count: int) -> tuple[pa.LargeBinaryArray, NDArray[np.int64]]:
    """Heads of records that all have the first timestamp; tables of a few sizes are kept."""
    heads, sizes = _flat_head_table(1 << max(10, (count - 1).bit_length()))
    return heads[:count], sizes[:count]


def _write_varints(numbers: NDArray[np.uint64]) -> tuple[pa.LargeBinaryArray, NDArray[np.int64]]:
    sizes = np.ones(len(numbers), np.int64)
    for bits in range(7, 64, 7):
        sizes += numbers >= np.uint64(1 << bits)
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    data = np.empty(int(ends[-1]), np.uint8)
    for place in range(int(sizes.max(initial=0))):
        rows = np.flatnonzero(sizes > place)
        byte = ((numbers[rows] >> np.uint64(7 * place)) & np.uint64(127)).astype(np.uint8)
        data[ends[rows] + place] = byte | np.where(sizes[rows] > place + 1, 128, 0).astype(np.uint8)
    buffers: list[Any] = [None, pa.py_buffer(ends.data), pa.py_buffer(data.data)]
    array: Any = pa.Array.from_buffers(_BINARY, len(numbers), buffers)
    return array, sizes


def _header_bytes(headers: Sequence[Headers]) -> pa.LargeBinaryArray:
    return pa.array([_encode_headers(row) if row else _NO_HEADERS for row in headers], _BINARY)


def _encode_headers(headers: Headers) -> bytes:
    out = bytearray(_small_varint(len(headers)))
    for name, value in headers:
        encoded = name.encode()
        out += _small_varint(len(encoded)) + encoded
        out += _NULL if value is None else _small_varint(len(value)) + value
    return bytes(out)


def _small_varint(number: int) -> bytes:
    number <<= 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
