"""Event times of a batch, and the watermark of its partition row by row.

`W_before = max(W, cummax(t - out_of_order).shift(1))`: what the partition's watermark was just before each row, in offset
order, however the rows were polled or batched. Bad times are found first and never reach it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .batch import MAX_TIME, MIN_TIME
from .duration import duration_text
from .errors import SchemaError

_PER_MS: Final = {"ms": 1, "us": 1_000, "ns": 1_000_000}
_FOREVER: Final = np.iinfo(np.int64).max


def event_times(column: pl.Series) -> pl.Series:
    """An event-time column as Int64 milliseconds (floor); nulls stay null.

    Raises SchemaError when it is neither an integer nor a datetime column.
    """
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime):
        ticks = column.to_physical()
        per_ms = _PER_MS[dtype.time_unit]
        return ticks if per_ms == 1 else ticks // per_ms
    if dtype.is_integer():
        return column.cast(pl.Int64, strict=False)
    raise SchemaError(f"event-time column {column.name!r}: expected int64 milliseconds or a datetime, got {dtype}")


def bad_times(times: pl.Series, timestamps: NDArray[np.int64], future_max_ms: int) -> NDArray[np.bool_]:
    """Rows whose time is null, out of range, or further ahead of the record's own timestamp than allowed.

    Records without a timestamp (-1) cannot be judged by it. Negative times are fine.
    """
    if _surely_good(times, timestamps, future_max_ms):
        return np.zeros(len(times), dtype=np.bool_)
    values = times.fill_null(_FOREVER).to_numpy()
    limits = np.where(timestamps >= 0, timestamps.clip(max=MAX_TIME - 1) + future_max_ms, np.int64(MAX_TIME - 1))
    bad: NDArray[np.bool_] = (values > np.minimum(limits, MAX_TIME - 1)) | (values <= MIN_TIME)
    return bad


def _surely_good(times: pl.Series, timestamps: NDArray[np.int64], future_max_ms: int) -> bool:
    """Whether even the largest time is good beside the smallest timestamp: four numbers instead of a comparison a row."""
    if not len(times) or times.null_count():
        return False
    values = times.to_numpy()
    earliest = int(timestamps.min())
    limit = min(earliest + future_max_ms, MAX_TIME - 1)
    return 0 <= earliest < MAX_TIME and int(values.max()) <= limit and int(values.min()) > MIN_TIME


def why_bad(time: int | None, timestamp: int, future_max_ms: int, name: str) -> str:
    """The reason, for people."""
    if time is None:
        return f"event time is null - at $.{name}"
    if MIN_TIME < time < MAX_TIME:
        ahead = duration_text(future_max_ms)
        return f"event time {time} is more than {ahead} ahead of the record's timestamp {timestamp} - at $.{name}"
    return f"event time {time} is out of range - at $.{name}"


def watermarks(times: NDArray[np.int64], watermark: int, out_of_order_ms: int) -> tuple[NDArray[np.int64], int]:
    """The watermark just before each row, and after the last. `watermark`: before the first."""
    running = np.empty(len(times) + 1, dtype=np.int64)
    running[0] = watermark
    np.subtract(times, out_of_order_ms, out=running[1:])
    np.maximum.accumulate(running, out=running)
    return running[:-1], int(running[-1])
