"""Record batches taken apart and put together (records.c): 0.01 us a record each way."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .loader import address, binary_column, library

RECORD_ROOM_BYTES = 42
"""At most this much is added to key, value and headers of a record."""


@dataclass(frozen=True, slots=True, eq=False)
class ByteSlices(Sequence[bytes | None]):
    """A column of bytes that lies anywhere in one buffer: value i is `data[starts[i]:starts[i] + lengths[i]]`; a length of
    -1 is a null. Python bytes are made of those values only that are asked for."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, at: int) -> bytes | None: ...
    @overload
    def __getitem__(self, at: slice) -> ByteSlices: ...
    def __getitem__(self, at: int | slice) -> bytes | ByteSlices | None:
        if isinstance(at, slice):
            return ByteSlices(self.data, self.starts[at], self.lengths[at])
        start, length = int(self.starts[at]), int(self.lengths[at])
        return None if length < 0 else self.data[start : start + length].tobytes()

    def __iter__(self) -> Iterator[bytes | None]:
        data = self.data.data
        for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True):
            yield None if length < 0 else bytes(data[start : start + length])

    def taken(self, rows: NDArray[np.int64]) -> ByteSlices:
        """These rows, in this order."""
        return ByteSlices(self.data, self.starts[rows], self.lengths[rows])

    def to_arrow(self) -> pa.LargeBinaryArray:
        """One behind the other, as Arrow has them."""
        native = library()
        if native is None:
            return pa.array(list(self), pa.large_binary())
        rows = len(self)
        offsets = np.empty(rows + 1, np.int64)
        out = np.empty(int(self.lengths.clip(min=0).sum()), np.uint8)
        starts, lengths = np.ascontiguousarray(self.starts), np.ascontiguousarray(self.lengths)
        native.ms_gather(
            address(self.data), address(starts), address(lengths), ctypes.c_int64(rows), address(offsets), address(out)
        )
        return _large_binary(offsets, out, lengths)


def slices_of(values: Sequence[bytes | None]) -> ByteSlices:
    """Any column of bytes as slices, copied into one buffer where it is not."""
    if isinstance(values, ByteSlices):
        return values
    lengths = np.fromiter((-1 if value is None else len(value) for value in values), np.int64, len(values))
    data = np.frombuffer(b"".join(value for value in values if value is not None), np.uint8)
    present = lengths.clip(min=0)
    return ByteSlices(data, np.cumsum(present) - present, lengths)


@dataclass(frozen=True, slots=True)
class ParsedRecords:
    """One record batch. `times` and `offsets` are relative to its first timestamp and its base offset."""

    keys: ByteSlices
    values: ByteSlices
    """In the same buffer as the keys."""
    times: NDArray[np.int64]
    offsets: NDArray[np.int64]


def joined(parts: Sequence[ParsedRecords]) -> ParsedRecords:
    """Batches one behind the other, keys and values in one buffer; times and offsets stay relative to each batch's own."""
    if len(parts) == 1:
        return parts[0]
    bodies = [part.values.data for part in parts]
    data = np.concatenate(bodies)
    begins = np.repeat(np.cumsum([0, *map(len, bodies[:-1])]), [len(part.values) for part in parts])
    return ParsedRecords(
        ByteSlices(data, *_places([part.keys for part in parts], begins)),
        ByteSlices(data, *_places([part.values for part in parts], begins)),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.offsets for part in parts]),
    )


def _places(parts: Sequence[ByteSlices], begins: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.concatenate([part.starts for part in parts]) + begins, np.concatenate([part.lengths for part in parts])


def parse_records(body: NDArray[np.uint8], count: int) -> ParsedRecords | None:
    """The records of a batch, uncompressed. None where this is not the way to read them: the library is missing, a record
    has headers, or something is malformed; aiokafka's parser says what."""
    native = library()
    if native is None or count * 7 > len(body):  # seven bytes are the smallest record; refuses absurd counts
        return None
    columns = np.empty((6, count), np.int64)
    places = [ctypes.c_void_p(columns.ctypes.data + row * count * 8) for row in range(6)]
    size = ctypes.c_int64(len(body))
    if native.ms_parse_records(address(body), size, ctypes.c_int64(count), *places) != 0:
        return None
    key_at, key_length, value_at, value_length, times, offsets = columns
    return ParsedRecords(ByteSlices(body, key_at, key_length), ByteSlices(body, value_at, value_length), times, offsets)


class RecordColumns(NamedTuple):
    """Columns that records are built from, of one length."""

    keys: pa.LargeBinaryArray | None
    """None: every key is null."""
    values: pa.LargeBinaryArray
    headers: pa.LargeBinaryArray | None
    """Each row's encoded, their number included; None: no row has any."""
    times: NDArray[np.int64] | None
    """Milliseconds; None: all rows have one timestamp."""


def build_records(columns: RecordColumns, rows: range, first_ms: int, payload_bytes: int) -> memoryview | None:
    """`rows` of the columns as records; None where the library is missing. `payload_bytes`: of keys, values and headers of
    these rows, no less; `first_ms`: what timestamps are told relative to."""
    native = library()
    if native is None:
        return None
    out = np.empty(payload_bytes + RECORD_ROOM_BYTES * len(rows), np.uint8)
    size: int = native.ms_build_records(
        ctypes.c_int64(rows.start),
        ctypes.c_int64(rows.stop),
        _reference(columns.keys),
        _reference(columns.values),
        _reference(columns.headers),
        None if columns.times is None else address(columns.times),
        ctypes.c_int64(first_ms),
        address(out),
    )
    return out.data[:size]


def _reference(column: pa.LargeBinaryArray | None) -> object:
    return None if column is None else ctypes.byref(binary_column(column))


def _large_binary(
    offsets: NDArray[np.int64], out: NDArray[np.uint8], lengths: NDArray[np.int64]
) -> pa.LargeBinaryArray:
    present = lengths >= 0
    valid = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little").data)
    buffers: list[object] = [valid, pa.py_buffer(offsets.data), pa.py_buffer(out.data)]
    made: Any = pa.Array.from_buffers(pa.large_binary(), len(lengths), cast(Any, buffers))
    return cast(pa.LargeBinaryArray, made)
