"""Keys as bytes whose order is the order of the values.

A store is sorted by bytes, so what is read or deleted as a range must stand together: windows by their end, chunks by
their document. One value a part:

    int64     8 bytes, big endian, sign bit flipped (as in FoundationDB's and SQLite4's key encodings)
    text      UTF-8, every NUL as 00 FF, then 00 00; UTF-8's order of bytes is the order of code points
    bytes     the same, without UTF-8
    tuple     its parts one after another: text and bytes end themselves, int64 has its length

A part of a tuple is told apart by the caller, who knows the types; a key does not say them. The last text of a key needs
no end: `window_keys` appends the rest as it is.

Column forms work on whole Arrow arrays (0.02 us a key).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

KeyPart = int | str | bytes

_SIGN = 1 << 63
_END = b"\x00\x00"


def int_key(value: int) -> bytes:
    """Raises OverflowError outside int64."""
    if not -_SIGN <= value < _SIGN:
        raise OverflowError(f"{value} does not fit into a key of 64 bits")
    return struct.pack(">Q", value + _SIGN)


def key_int(key: bytes, at: int = 0) -> int:
    """The integer at this place of a key. Raises ValueError where the key is too short."""
    if len(key) < at + 8:
        raise ValueError(f"no 64-bit integer at byte {at} of key {key!r}")
    return int(struct.unpack_from(">Q", key, at)[0]) - _SIGN


def bytes_key(value: bytes) -> bytes:
    return value.replace(b"\x00", b"\x00\xff") + _END


def text_key(value: str) -> bytes:
    """Raises UnicodeEncodeError for lone surrogates, which no UTF-8 text has."""
    return bytes_key(value.encode())


def tuple_key(parts: Sequence[KeyPart]) -> bytes:
    """Shorter tuples stand before longer ones that begin with them. Parts at one place must be of one type."""
    return b"".join(_part(part) for part in parts)


def key_tuple(key: bytes, types: Sequence[type[KeyPart]]) -> tuple[KeyPart, ...]:
    """The inverse, given the types. Raises ValueError for bytes that are no such key."""
    parts: list[KeyPart] = []
    at = 0
    for kind in types:
        if kind is int:
            parts.append(key_int(key, at))
            at += 8
        else:
            value, at = _text(key, at)
            parts.append(value.decode() if kind is str else value)
    if at != len(key):
        raise ValueError(f"{len(key) - at} bytes too many in key {key!r}")
    return tuple(parts)


def prefix_stop(prefix: bytes) -> bytes | None:
    """The smallest key above all that begin with the prefix; None: there is none, read to the end."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def int_keys(values: NDArray[np.int64]) -> pa.LargeBinaryArray:
    """`int_key` of a column."""
    flipped = (values.astype(np.int64, copy=False).view(np.uint64) ^ np.uint64(_SIGN)).astype(">u8")
    offsets = np.arange(0, 8 * len(values) + 1, 8, dtype=np.int64)
    buffers = [None, pa.py_buffer(offsets.data), pa.py_buffer(flipped.data)]
    return cast(pa.LargeBinaryArray, pa.Array.from_buffers(pa.large_binary(), len(values), buffers))


def window_keys(window_end: NDArray[np.int64], keys: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """Window first, then the key as it is: a closed window is one range. No nulls in `keys`."""
    nothing: Any = pa.scalar(b"", pa.large_binary())
    return cast(pa.LargeBinaryArray, pc.binary_join_element_wise(int_keys(window_end), keys, nothing))


def split_window_keys(keys: pa.LargeBinaryArray) -> tuple[NDArray[np.int64], pa.LargeBinaryArray]:
    """The inverse: window ends and keys. Raises ValueError where a key is shorter than 8 bytes."""
    if len(keys) == 0:
        return np.empty(0, np.int64), keys
    if (short := pc.min(pc.binary_length(keys)).as_py()) < 8:
        raise ValueError(f"a window key has at least 8 bytes, found one of {short}")
    _, offset_bytes, data_bytes = cast("list[memoryview]", keys.buffers())
    offsets = np.frombuffer(offset_bytes, np.int64)[keys.offset : keys.offset + len(keys)]
    data = np.frombuffer(data_bytes, np.uint8)
    heads = data[offsets[:, None] + np.arange(8)].view(">u8").astype(np.uint64).ravel()
    ends = (heads ^ np.uint64(_SIGN)).view(np.int64)
    return ends, pc.binary_slice(keys, 8, 1 << 31)  # without a stop Arrow asks for a buffer of negative size


def _part(part: KeyPart) -> bytes:
    if isinstance(part, int):
        return int_key(part)
    return text_key(part) if isinstance(part, str) else bytes_key(part)


def _text(key: bytes, at: int) -> tuple[bytes, int]:
    """The text that begins here, and where the next part begins."""
    stop = key.find(_END, at)
    if stop < 0:
        raise ValueError(f"text without an end at byte {at} of key {key!r}")
    return key[at:stop].replace(b"\x00\xff", b"\x00"), stop + 2
