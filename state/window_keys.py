"""The keys of windows and sessions in a store: a time first, so that ascending bytes are ascending time, then the key's text."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from . import keys as order_preserving

CLOSED_KEY: Final = b"\x00closed"
"""Where "closed up to" is kept: seven bytes, shorter than any window's key."""

WINDOW_KEY_BYTES_MIN: Final = 8


def window_keys(times: NDArray[np.int64], texts: pl.Series) -> pa.LargeBinaryArray:
    """A key of each time and key text."""
    return order_preserving.window_keys(times, binary_array(texts.cast(pl.Binary)))


def split_keys(keys: pa.LargeBinaryArray) -> tuple[NDArray[np.int64], pl.Series]:
    """The inverse of `window_keys`: times and key texts."""
    times, texts = order_preserving.split_window_keys(keys)
    return times, pl.Series("key", texts, dtype=pl.Binary).cast(pl.String)


def binary_array(column: pl.Series) -> pa.LargeBinaryArray:
    """A Binary column as Arrow's."""
    array = column.rechunk().to_arrow()
    assert isinstance(array, pa.LargeBinaryArray), "polars gives its binary columns as these"
    return array
