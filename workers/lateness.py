"""Rows that came too late for a step that gives each result once, and rows no pattern can be found with.

    late  iff  t < max(W_before, W) - grace      W_before: of the row's own partition; W: of the task, ahead of it only
                                                  where the partition had been idle

Late rows are counted (`late_rows`, or `late_rows.partition_woke`) and given on the step's second output with the reason.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..topics.batch import BEFORE, DELETED, MIN_TIME, OFFSET, TIME, Batch
from ..topics.duration import duration_text
from .gathering import LATE_REASON
from .operator import Context

TIME_LIMIT: Final = 1 << 61
"""Event times are smaller than this, so that no sum of them and a limit leaves 64 bits."""

Flags = NDArray[np.bool_]


def late_rows(batch: Batch, watermark: int, grace_ms: int) -> Flags | None:
    """Which rows are late; None where none is."""
    newest = max(watermark, int(batch.before.max()))
    if int(batch.time.min()) >= newest - grace_ms:
        return None
    late: Flags = batch.time < np.maximum(batch.before, watermark) - grace_ms
    return late if late.any() else None


def told_late(batch: Batch, late: Flags, watermark: int, grace_ms: int, context: Context) -> pl.DataFrame:
    """Counts the late rows; gives them with the column `late_reason` behind the user's."""
    woke = late & (batch.time >= batch.before - grace_ms)
    count(context, "late_rows", int((late & ~woke).sum()))
    count(context, "late_rows.partition_woke", int(woke.sum()))
    own = pl.format("the watermark of its partition was {}", BEFORE)
    task = pl.lit(f"its partition slept, and the task's watermark was {watermark}")
    why = pl.concat_str(
        pl.format("its time {} is more than the grace of {} behind: ", TIME, pl.lit(duration_text(grace_ms))),
        pl.when(pl.lit(pl.Series(woke[late]))).then(task).otherwise(own),
    )
    frame = batch.frame.filter(pl.Series(late))
    internal = [name for name in (TIME, BEFORE, OFFSET) if name in frame.columns]
    return frame.select(*batch.user_columns, why.alias(LATE_REASON), *internal)


def usable(batch: Batch, step: str, context: Context) -> Batch:
    """Without tombstones, and without times so large that adding a limit could leave 64 bits: a dead letter each."""
    times = batch.time
    wrong = (times <= -TIME_LIMIT) | (times >= TIME_LIMIT)
    deleted = batch.frame[DELETED].fill_null(value=False).to_numpy() if DELETED in batch.frame.columns else None
    if deleted is not None:
        wrong |= deleted
    if not wrong.any():
        return batch
    rows = np.flatnonzero(wrong)
    reasons = [
        f"{step} takes no tombstones; use emit='final' before it"
        if deleted is not None and deleted[row]
        else f"event time {times[row]} is out of range"
        for row in rows
    ]
    context.reject(batch, rows, reasons)
    return batch.replaced(batch.frame.filter(pl.Series(~wrong)))


def made_rows(frame: pl.DataFrame, times: NDArray[np.int64], passed_on: int) -> Batch:
    """Rows a step made, at these times. `passed_on`: the watermark it had passed on before."""
    internal = [
        pl.Series(TIME, times),
        pl.lit(passed_on, pl.Int64).alias(BEFORE),
        pl.lit(-1, pl.Int64).alias(OFFSET),
    ]
    return Batch(frame.with_columns(internal))


def lowered(watermark: int, delay_ms: int) -> int:
    return max(watermark - delay_ms, MIN_TIME)


def count(context: Context, what: str, amount: int) -> None:
    """Adds to a step's counter where there is something to add."""
    if amount:
        context.count(what, amount)
