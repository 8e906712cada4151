"""64-bit hashes of values that are the same in every process, version and machine, as they are kept in state.

    number    mix(its 64 bits)                       -0.0 as 0.0, every NaN as one
    text      h = mix(length); for each word of 8 bytes, little-endian, the last filled with zeros: h = mix(h ^ word)
    longer    (more than LONG_BYTES) the first 8 bytes of BLAKE2b (RFC 7693), one value at a time

`mix` is the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014), behind the
addition of its constant, so that 0 is no fixed point. It is a bijection: numbers never collide. Not for use against an adversary.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ...state.slots import Values, offsets_of
from ._values import number_type, numbers, texts

LONG_BYTES: Final = 128
_Hashes = NDArray[np.uint64]


def hashes(values: Values, column_type: pl.DataType) -> _Hashes:
    """Of values without nulls, one each."""
    kind = number_type(column_type)
    if kind is None:
        return _of_texts(texts(values, column_type))
    array = numbers(values, kind)
    if kind.kind == "f":
        array = np.where(np.isnan(array), np.nan, array + 0.0)  # -0.0 + 0.0 is 0.0
        return _mix(array.view(np.uint64))
    return _mix(array.astype(np.uint64))


def _mix(x: _Hashes) -> _Hashes:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _of_texts(values: pl.Series) -> _Hashes:
    column: Any = values.cast(pl.Binary).to_arrow().cast(pa.large_binary())
    offsets = offsets_of(column)
    starts, sizes = offsets[:-1], np.diff(offsets)
    words = _words(column)
    found = _mix(sizes.astype(np.uint64))
    for word in range(-(-min(int(sizes.max(initial=0)), LONG_BYTES) // 8)):
        rows = np.flatnonzero(sizes > 8 * word)
        found[rows] = _mix(found[rows] ^ _cut(words[starts[rows] + 8 * word], sizes[rows] - 8 * word))
    for row in np.flatnonzero(sizes > LONG_BYTES).tolist():
        found[row] = int.from_bytes(blake2b(column[row].as_py(), digest_size=8).digest(), "little")
    return found


def _words(column: pa.LargeBinaryArray) -> NDArray[np.uint64]:
    """The 8 bytes from each byte on, read past the end as zeros; a view."""
    buffer = column.buffers()[2]
    data = (b"" if buffer is None else buffer.to_pybytes()) + bytes(8)
    return np.ndarray(len(data) - 7, np.dtype("<u8"), data, strides=(1,))


def _cut(words: _Hashes, sizes: NDArray[np.int64]) -> _Hashes:
    """Without the bytes behind the end of the value, of which so many are left."""
    spare = (8 * np.clip(8 - sizes, 0, 7)).astype(np.uint64)
    return (words << spare) >> spare
