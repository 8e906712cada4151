"""Columns into JSON objects (json_out.c)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from .loader import address, library

_RAW, _TEXT, _INT64, _UINT64, _FLOAT64 = range(5)
_SIGNED: Final = (pl.Int8, pl.Int16, pl.Int32, pl.Int64)
_UNSIGNED: Final = (pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)


@dataclass(frozen=True, slots=True)
class Cells:
    """One column: what stands before each value, and the values; `raw`: texts that are JSON already."""

    prefix: bytes
    column: pl.Series
    raw: bool


class _Cells(ctypes.Structure):
    """`cells` of json_out.c."""

    _fields_ = (
        ("prefix", ctypes.c_char_p),
        ("prefix_length", ctypes.c_int64),
        ("values", ctypes.c_void_p),
        ("valid", ctypes.c_void_p),
        ("first_bit", ctypes.c_int64),
        ("buffers", ctypes.c_void_p),
        ("kind", ctypes.c_int32),
    )


@dataclass(slots=True)
class _Held:
    """Columns as C reads them, and what must stay alive meanwhile."""

    cells: list[_Cells] = field(default_factory=list)
    alive: list[object] = field(default_factory=list)

    def add(self, one: Cells) -> None:
        kind, column = _kind_of(one)
        array: Any = column.rechunk().alias("").to_arrow(compat_level=pl.CompatLevel.newest())
        valid, values, *far = array.buffers()
        width = 16 if kind in (_RAW, _TEXT) else 8
        places = np.array([buffer.address if buffer else 0 for buffer in far], np.uint64)
        self.alive += [array, places]
        begin = values.address + array.offset * width if values else None
        self.cells.append(
            _Cells(
                one.prefix,
                len(one.prefix),
                begin,
                valid.address if valid else None,
                array.offset,
                places.ctypes.data,
                kind,
            )
        )


def _kind_of(one: Cells) -> tuple[int, pl.Series]:
    dtype = one.column.dtype
    if one.raw:
        return _RAW, one.column
    if isinstance(dtype, pl.String):
        return _TEXT, one.column
    if isinstance(dtype, pl.Float64):
        return _FLOAT64, one.column
    if isinstance(dtype, _SIGNED):
        return _INT64, one.column.cast(pl.Int64)
    if isinstance(dtype, _UNSIGNED):
        return _UINT64, one.column.cast(pl.UInt64)
    raise ValueError(f"no way to write {dtype}")


def writes(dtype: pl.DataType) -> bool:
    """Whether a column of this type needs no text made of it first."""
    return isinstance(dtype, (pl.String, pl.Float64, *_SIGNED, *_UNSIGNED))


def write_json(columns: Sequence[Cells], rows: int) -> pa.LargeBinaryArray | None:
    """`{` and `}` around the columns' cells, row by row; None where the library is missing."""
    native = library()
    if native is None:
        return None
    columns = list(columns)
    while True:  # at most once for each column that has floats
        held = _Held()
        for one in columns:
            held.add(one)
        written = _written(native, held, rows)
        if isinstance(written, pa.LargeBinaryArray):
            return written
        long = columns[written]
        columns[written] = Cells(long.prefix, float_text(long.column), raw=True)


def _written(native: ctypes.CDLL, held: _Held, rows: int) -> pa.LargeBinaryArray | int:
    """The rows, or the number of the column whose floats are no short decimals."""
    array = (_Cells * len(held.cells))(*held.cells)
    count, height = ctypes.c_int32(len(held.cells)), ctypes.c_int64(rows)
    out: NDArray[np.uint8] = np.empty(native.ms_json_bytes_max(array, count, height), np.uint8)
    offsets = np.empty(rows + 1, np.int64)
    size: int = native.ms_write_json(array, count, height, address(offsets), address(out))
    if size < 0:
        return -1 - size
    buffers: list[Any] = [None, pa.py_buffer(offsets.data), pa.py_buffer(out[:size].data)]
    made: Any = pa.Array.from_buffers(pa.large_binary(), rows, buffers)
    found: pa.LargeBinaryArray = made
    return found


def float_text(column: pl.Series) -> pl.Series:
    """The shortest text that reads back to the same value; null for what is not finite, since JSON has no others."""
    finite = column.is_finite()
    plain = column if finite.all() else pl.select(pl.when(finite).then(column)).to_series()
    return plain.cast(pl.String)
