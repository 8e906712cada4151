"""The bytes of a window's key: its end first, so that ascending bytes are ascending time, then the key's text."""

from __future__ import annotations

from typing import Final, cast

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from .slots import fixed_bytes, joined_bytes

CLOSED_KEY: Final = b"\x00closed"
"""Where "closed up to" is kept: seven bytes, shorter than any window's key."""

_SIGN: Final = np.uint64(1 << 63)


def end_bytes(end: int) -> bytes:
    """Big-endian with the sign flipped: bytes ascend as the numbers do."""
    return (end + (1 << 63)).to_bytes(8, "big")


def end_of(data: bytes) -> int:
    """The inverse of `end_bytes`."""
    return int.from_bytes(data[:8], "big") - (1 << 63)


def window_keys(ends: NDArray[np.int64], keys: pl.Series) -> pa.LargeBinaryArray:
    """A window's key of each end and key text."""
    flipped = ends.view(np.uint64) ^ _SIGN
    texts = cast(pa.LargeBinaryArray, keys.cast(pl.Binary).to_arrow())
    return joined_bytes([fixed_bytes([flipped.byteswap()]), texts])


def split_keys(keys: pa.LargeBinaryArray) -> tuple[NDArray[np.int64], pl.Series]:
    """The inverse of `window_keys`: ends and key texts. Every key has eight bytes or more."""
    column = pl.Series("key", keys, dtype=pl.Binary)
    heads = b"".join(column.bin.slice(0, 8).to_list())
    ends = (np.frombuffer(heads, ">u8").astype(np.uint64) ^ _SIGN).view(np.int64)
    return ends, column.bin.slice(8).cast(pl.String)
