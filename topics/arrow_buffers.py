"""Arrow's buffers as numpy arrays, without copies: offsets and octets of binary columns, views of string columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ..native.records import ByteSlices

VIEW_BYTES = 16
"""A view: int32 length, then the first 4 bytes of the text, then more (Arrow's BinaryView layout)."""


def binary_buffers(array: pa.LargeBinaryArray) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """`(offsets, octets)`: value i is `octets[offsets[i]:offsets[i + 1]]`. Also for large strings."""
    if not len(array):
        return np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.uint8)
    _, ends, data = cast(Any, array).buffers()
    offsets = np.frombuffer(ends, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    octets = np.empty(0, dtype=np.uint8) if data is None else np.frombuffer(data, dtype=np.uint8)
    return offsets, octets


def octets_of(text: pl.Series) -> NDArray[np.uint8]:
    """All bytes of a String column, end to end."""
    offsets, octets = binary_buffers(cast(Any, _nameless(text).to_arrow()))
    return octets[offsets[0] : offsets[-1]]


def first_octets(text: pl.Series) -> NDArray[np.uint8]:
    """The first byte of each text of a String column (0 where empty, anything where null)."""
    if not len(text):
        return np.empty(0, dtype=np.uint8)
    array = cast(Any, _nameless(text).to_arrow(compat_level=pl.CompatLevel.newest()))
    views = np.frombuffer(array.buffers()[1], dtype=np.uint8).reshape(-1, VIEW_BYTES)
    return views[array.offset : array.offset + len(array), 4]


def large_binary(values: Sequence[bytes | None]) -> pa.LargeBinaryArray:
    """Bytes as a column."""
    if isinstance(values, ByteSlices):
        return values.to_arrow()
    return pa.array(values, type=pa.large_binary())


def series_binary(column: pl.Series) -> pa.LargeBinaryArray:
    """A String or Binary column as Arrow takes it, in one chunk."""
    return cast(pa.LargeBinaryArray, _nameless(column.cast(pl.Binary)).to_arrow())


def _nameless(column: pl.Series) -> pl.Series:
    """In one chunk; a name with a NUL in it would not pass Arrow's C interface."""
    return column.rechunk().alias("")
