"""Slots: keys as small ints, and what is gathered a key as numpy columns addressed by them.

    key text --KeyCodes--> code (dense, one dictionary an operator) --slot_of[code]--> slot (dense, one numbering a window)
    accumulator column[slot]                    np.add.at(column, slots, values) is a whole group-by and merge

Measured at 10,000 keys in batches of 50,000 rows: codes 0.04 us a row, slots and one sum 0.01. (A Python dict takes 0.11 for
the codes alone, a hash group-by and a join with the state 0.6.)

How an accumulator's columns become the bytes of a changelog record, and back, is here too (`pack`, `unpack`): the fixed-width
columns little-endian and without gaps, then each variable one behind its length in four bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .errors import StateError

Slots = NDArray[Any]
"""Slot numbers (an integer array); a slot may occur many times."""

Values = pl.Series | NDArray[Any]
"""The values of some rows: an array only where they are 64-bit numbers and none is null (`plain`)."""

Part = NDArray[Any] | pa.LargeBinaryArray
"""One column of encoded state: fixed-width numbers, or bytes of any length."""

Layout = tuple[np.dtype[Any] | None, ...]
"""The types of the parts; None: bytes of any length."""

_SLOTS_MIN = 256
_MARKS_A_ROW_MAX = 8  # beyond it sorting the rows is cheaper than looking through the marks
_Scalar = TypeVar("_Scalar", bound=np.generic)


def grown(column: NDArray[_Scalar], size: int, fill: object) -> NDArray[_Scalar]:
    """The column with room for at least `size` entries (a power of two), new ones filled with `fill`; itself where it has."""
    if size <= len(column):
        return column
    wider = np.full(max(_SLOTS_MIN, 1 << (size - 1).bit_length()), fill, column.dtype)
    wider[: len(column)] = column
    return wider


def plain(values: pl.Series) -> Values:
    """As an array where that is free: the calls of a Series cost tens of microseconds each, so small batches want few."""
    if values.dtype in (pl.Int64, pl.Float64) and not values.null_count():
        return values.to_numpy()
    return values


class Accumulator(Protocol):
    """One aggregate of many groups: slot-addressed columns. Nulls among the values are skipped, as in SQL.

    The state layer only moves slots about; what they mean is in `workers/reducers/`.
    """

    layout: Layout

    def reserve(self, slots: int) -> None:
        """Slots `0 .. slots-1` can be used; new ones hold the aggregate of no rows."""
        ...

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        """Rows in order of arrival. `values` is None for an aggregate of no column."""
        ...

    def merge(self, into: Slots, source: Slots) -> None:
        """`into[i]` takes in `source[i]`, in order; a target may occur many times, and what it held came first."""
        ...

    def clear(self, slots: Slots) -> None:
        """These slots hold the aggregate of no rows again."""
        ...

    def result(self, slots: Slots) -> pl.Series: ...

    def unfit(self, slots: Slots) -> NDArray[np.bool_] | None:
        """Which results do not fit their type (an integer sum beyond 64 bits); None where all do. `result` is null there."""
        ...

    def encode(self, slots: Slots) -> list[Part]:
        """One part an entry of `layout`."""
        ...

    def decode(self, slots: Slots, parts: Sequence[Part]) -> None:
        """The inverse of `encode`: these slots, each once, hold exactly what was encoded."""
        ...

    @property
    def size_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ResultRows:
    """Results as columns of one length."""

    keys: pl.Series
    ends: NDArray[np.int64]
    results: Sequence[pl.Series]
    unfit: NDArray[np.bool_] | None
    """Rows of which some result does not fit its type; None where all do."""

    def __len__(self) -> int:
        return len(self.ends)


class FixedAccumulator:
    """An accumulator made of numpy columns alone. `empty`: a typed value a column, that of the aggregate of no rows."""

    def __init__(self, *empty: np.generic) -> None:
        self._empty = empty
        self.layout: Layout = tuple(value.dtype for value in empty)
        self.columns: list[NDArray[Any]] = [np.full(0, value, value.dtype) for value in empty]

    def reserve(self, slots: int) -> None:
        self.columns = [grown(column, slots, empty) for column, empty in zip(self.columns, self._empty, strict=True)]

    def clear(self, slots: Slots) -> None:
        for column, empty in zip(self.columns, self._empty, strict=True):
            column[slots] = empty

    def unfit(self, slots: Slots) -> NDArray[np.bool_] | None:
        return None

    def encode(self, slots: Slots) -> list[Part]:
        return [column[slots] for column in self.columns]

    def decode(self, slots: Slots, parts: Sequence[Part]) -> None:
        for column, part in zip(self.columns, parts, strict=True):
            column[slots] = part

    @property
    def size_bytes(self) -> int:
        return sum(column.nbytes for column in self.columns)


def distinct(codes: NDArray[_Scalar], size: int) -> NDArray[np.int64]:
    """The different ones, ascending, all below `size`. (`np.unique` takes 0.07 us a row and more, sorting 0.004, marking 0.001.)"""
    if len(codes) * _MARKS_A_ROW_MAX < size:
        return different(np.sort(codes)).astype(np.int64)
    marks = np.zeros(size, np.bool_)
    marks[codes] = True
    return np.flatnonzero(marks)


def different(ascending: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """Each once."""
    return ascending[np.append(True, ascending[1:] != ascending[:-1])] if len(ascending) else ascending


def fixed_bytes(columns: Sequence[NDArray[Any]]) -> pa.LargeBinaryArray:
    """Fixed-width columns side by side as one column of bytes, little-endian, without gaps."""
    rows = len(columns[0])
    packed = np.empty(rows, np.dtype([(f"f{i}", column.dtype.newbyteorder("<")) for i, column in enumerate(columns)]))
    for i, column in enumerate(columns):
        packed[f"f{i}"] = column
    offsets = np.arange(rows + 1, dtype=np.int64) * packed.dtype.itemsize
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(packed.tobytes())]
    return cast(pa.LargeBinaryArray, pa.Array.from_buffers(pa.large_binary(), rows, buffers))


def joined_bytes(columns: Sequence[pa.LargeBinaryArray]) -> pa.LargeBinaryArray:
    """Columns of bytes joined row by row."""
    if len(columns) == 1:
        return columns[0]
    join = cast(Callable[..., pa.LargeBinaryArray], pc.binary_join_element_wise)
    return join(*columns, pa.scalar(b"", pa.large_binary()))


def pack(parts: Sequence[Part]) -> pa.LargeBinaryArray:
    """Encoded state as one column of bytes: the fixed parts, then each variable one behind its length."""
    columns = []
    fixed = [part for part in parts if isinstance(part, np.ndarray)]
    if fixed:
        columns.append(fixed_bytes(fixed))
    for part in parts:
        if not isinstance(part, np.ndarray):
            columns += [fixed_bytes([np.diff(offsets_of(part)).astype(np.uint32)]), part]
    return joined_bytes(columns)


def offsets_of(column: pa.LargeBinaryArray) -> NDArray[np.int64]:
    """Where each value begins in the column's bytes, and where the last one ends."""
    if not len(column):
        return np.zeros(1, np.int64)
    return _buffer(column, 1).view(np.int64)[column.offset : column.offset + len(column) + 1]


def _buffer(column: pa.LargeBinaryArray, index: int) -> NDArray[np.uint8]:
    buffer = column.buffers()[index]
    return np.zeros(0, np.uint8) if buffer is None else np.frombuffer(memoryview(buffer), np.uint8)


def unpack(values: pa.LargeBinaryArray, layout: Layout) -> list[Part]:
    """The inverse of `pack`. Raises StateError where the bytes are not of this layout."""
    fixed = [kind for kind in layout if kind is not None]
    if len(fixed) == len(layout):
        columns = _unpack_fixed(values, fixed)
        return list(columns)
    head = sum(kind.itemsize for kind in fixed)
    rows = [_cut(value or b"", head, len(layout) - len(fixed)) for value in values.to_pylist()]
    numbers = iter(_unpack_fixed(pa.array([row[0] for row in rows], pa.large_binary()), fixed))
    texts = iter(
        [pa.array([row[i] for row in rows], pa.large_binary()) for i in range(1, 1 + len(layout) - len(fixed))]
    )
    return [next(texts) if kind is None else next(numbers) for kind in layout]


def _unpack_fixed(values: pa.LargeBinaryArray, kinds: Sequence[np.dtype[Any]]) -> list[NDArray[Any]]:
    packed = np.dtype([(f"f{i}", kind.newbyteorder("<")) for i, kind in enumerate(kinds)])
    offsets = offsets_of(values)
    if (np.diff(offsets) != packed.itemsize).any():
        raise _misfit(f"{packed.itemsize} bytes")
    if not len(values) or not packed.itemsize:
        return [np.zeros(len(values), kind) for kind in kinds]
    data = _buffer(values, 2)[offsets[0] : offsets[-1]]
    rows = data.view(packed)
    return [rows[f"f{i}"].astype(kind) for i, kind in enumerate(kinds)]


def _cut(value: bytes, head: int, texts: int) -> list[bytes]:
    """The fixed bytes, and each variable part."""
    parts, at = [value[:head]], head
    for _ in range(texts):
        end = at + 4 + int.from_bytes(value[at : at + 4], "little")
        parts.append(value[at + 4 : end])
        at = end
    if at != len(value):
        raise _misfit(f"{texts} parts of variable length after {head} bytes")
    return parts


def _misfit(expected: str) -> StateError:
    return StateError(
        f"stored accumulators are not what this step writes (expected {expected} a value): the aggregates were changed "
        "under their state; give the step a new name, or reset the application"
    )
