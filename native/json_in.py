"""JSON objects into columns (json_in.c): 0.1 us a record of a few plain fields."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from .loader import address, library
from .records import ByteSlices

FIELDS_MAX: Final = 64
INPUT_BYTES_MAX: Final = 1 << 31
"""Places in a column of texts are 32-bit numbers."""

_TO_BE_ESCAPED: Final = re.compile(r'["\\\x00-\x1f]')
_TEXT: Final = 0
_VIEW_BYTES: Final = 16
_KINDS: Final[dict[type[pl.DataType], tuple[int, Any]]] = {
    pl.String: (_TEXT, np.uint8),
    pl.Boolean: (1, np.uint8),
    pl.Float64: (2, np.float64),
    pl.Float32: (3, np.float32),
    pl.Int8: (4, np.int8),
    pl.Int16: (5, np.int16),
    pl.Int32: (6, np.int32),
    pl.Int64: (7, np.int64),
    pl.UInt8: (8, np.uint8),
    pl.UInt16: (9, np.uint16),
    pl.UInt32: (10, np.uint32),
    pl.UInt64: (11, np.uint64),
}
"""Types it reads: the number of their kind in json_in.c, and what their values are written as."""


class _Field(ctypes.Structure):
    """`field` of json_in.c."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("name_length", ctypes.c_int64),
        ("values", ctypes.c_void_p),
        ("valid", ctypes.c_void_p),
        ("text", ctypes.c_void_p),
        ("text_used", ctypes.c_int64),
        ("kind", ctypes.c_int32),
    )


@dataclass(slots=True)
class _Column:
    """What C writes for one field."""

    name: str
    dtype: pl.DataType
    values: NDArray[Any]
    valid: NDArray[np.uint8]
    text: NDArray[np.uint8]

    def field(self) -> _Field:
        name = self.name.encode()
        return _Field(
            name,
            len(name),
            self.values.ctypes.data,
            self.valid.ctypes.data,
            self.text.ctypes.data,
            0,
            _KINDS[type(self.dtype)][0],
        )

    def series(self, text_used: int) -> pl.Series:
        """As polars has it, without copying values (of texts beyond 12 bytes: what was used of the room for them)."""
        rows = len(self.valid)
        present = self.valid.view(np.bool_)
        valid = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little").data)
        buffers: list[Any] = [valid]
        if isinstance(self.dtype, pl.String):
            buffers += [pa.py_buffer(self.values.data), pa.py_buffer(self.text[:text_used].tobytes())]
            array: Any = pa.Array.from_buffers(pa.string_view(), rows, buffers)
        elif isinstance(self.dtype, pl.Boolean):
            array = pa.Array.from_buffers(
                pa.bool_(), rows, [valid, pa.py_buffer(np.packbits(self.values, bitorder="little").data)]
            )
        else:
            array = pa.Array.from_buffers(
                pa.from_numpy_dtype(self.values.dtype), rows, [valid, pa.py_buffer(self.values.data)]
            )
        read = pl.from_arrow(array)
        assert isinstance(read, pl.Series)
        return read.alias(self.name)


def reads(dtype: pl.DataType) -> bool:
    """Whether there is a way for this type here."""
    return type(dtype) in _KINDS


def read_json(
    values: ByteSlices, fields: Sequence[tuple[str, pl.DataType]]
) -> tuple[pl.DataFrame, NDArray[np.bool_]] | None:
    """All rows, and which of them are doubtful: those are null here and to be read again by the rule.

    None where this is not the way: the library is missing, there are too many fields or bytes, or a type it cannot read.
    """
    native = library()
    room = int(values.lengths.clip(min=0).sum())
    if native is None or not 0 < len(fields) <= FIELDS_MAX or room >= INPUT_BYTES_MAX:
        return None
    if not all(reads(dtype) and not _TO_BE_ESCAPED.search(name) for name, dtype in fields):
        return None
    columns = [_column(name, dtype, len(values), room) for name, dtype in fields]
    array = (_Field * len(columns))(*(column.field() for column in columns))
    doubtful = np.zeros(len(values), np.uint8)
    starts, lengths = np.ascontiguousarray(values.starts), np.ascontiguousarray(values.lengths)
    native.ms_read_json(
        address(values.data),
        address(starts),
        address(lengths),
        ctypes.c_int64(len(values)),
        array,
        ctypes.c_int32(len(columns)),
        address(doubtful),
    )
    read = [column.series(int(field.text_used)) for column, field in zip(columns, array, strict=True)]
    return pl.DataFrame(read), doubtful.view(np.bool_)


def _column(name: str, dtype: pl.DataType, rows: int, room: int) -> _Column:
    kind, written_as = _KINDS[type(dtype)]
    width = _VIEW_BYTES if kind == _TEXT else 1
    return _Column(
        name,
        dtype,
        np.zeros(rows * width, written_as),
        np.zeros(rows, np.uint8),
        np.empty(room if kind == _TEXT else 0, np.uint8),
    )
