"""Rows of a raw topic: the columns `key` and `value`, both bytes; a null value is a tombstone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from ..topics.batch import BEFORE, OFFSET, TIME, Batch
from ..topics.schema import Schema
from ..workers.errors import PlanError

RAW: Final = Schema((("key", pl.Binary()), ("value", pl.Binary())))


def check_raw(step: str, inputs: Sequence[Schema]) -> None:
    """Raises PlanError unless there is one input of these two columns."""
    if len(inputs) != 1 or inputs[0].polars() != RAW.polars():
        raise PlanError(
            f"step {step!r} reads the bytes `key` and `value` of one topic (codec raw), got columns "
            f"{[schema.names for schema in inputs]}"
        )


def key_and_value(row: Batch) -> tuple[bytes | None, bytes | None]:
    """Of a batch of one row."""
    return row.frame["key"][0], row.frame["value"][0]


def raw_batch(row: Batch, records: Sequence[tuple[bytes | None, bytes | None]]) -> Batch:
    """Rows made from one row: its times, no offset."""
    frame = pl.DataFrame(
        {"key": [key for key, _ in records], "value": [value for _, value in records]}, schema=RAW.polars()
    )
    return Batch(
        frame.with_columns(
            pl.lit(int(row.time[0]), pl.Int64).alias(TIME),
            pl.lit(int(row.before[0]), pl.Int64).alias(BEFORE),
            pl.lit(-1, pl.Int64).alias(OFFSET),
        )
    )
