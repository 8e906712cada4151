"""Blocks of rows: one record's value is an Arrow IPC stream of many rows. For topics only Millstream reads and writes.

Unlike the other codecs one record becomes any number of rows, so `Decoded.rows` repeats the record's number for each. A block may
have the column `DELETED` beside those of the schema, where rows take others back. What it is for: repartition topics (a tenth of the
cost of a record a row). It keeps every type exactly.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from ..batch import DELETED
from ..codec import BadRow, Decoded
from ..schema import Schema


class ArrowCodec:
    """See the module. Blocks are compressed by lz4 inside, for a record batch of few records compresses badly."""

    name = "arrow"

    def decode(self, values: Sequence[bytes | None], schema: Schema) -> Decoded:
        frames: list[pl.DataFrame] = []
        records: list[int] = []
        bad: list[BadRow] = []
        for record, value in enumerate(values):
            try:
                frames.append(_block(value, schema))
                records.append(record)
            except (ValueError, TypeError, OSError, pl.exceptions.PolarsError) as error:
                bad.append(BadRow(record, str(error) or type(error).__name__))
        rows = np.repeat(np.array(records, np.int64), [frame.height for frame in frames])
        return Decoded(_joined(frames) if frames else schema.empty(), rows, bad)

    def encode(self, frame: pl.DataFrame) -> pa.LargeBinaryArray:
        """All rows as one value: the array has one element, or none for an empty frame."""
        return pa.array([block(frame)] if frame.height else [], pa.large_binary())

    def check(self, schema: Schema) -> None:
        """Every polars type can be carried."""


CODEC = ArrowCodec()


def block(frame: pl.DataFrame) -> bytes:
    """The rows as one Arrow IPC stream."""
    out = io.BytesIO()
    frame.write_ipc_stream(out, compression="lz4")
    return out.getvalue()


def _block(value: bytes | None, schema: Schema) -> pl.DataFrame:
    if value is None:
        raise ValueError("null value")
    frame = pl.read_ipc_stream(io.BytesIO(value))
    if dict(frame.drop(DELETED, strict=False).schema) != schema.polars():
        raise ValueError(f"block of columns {dict(frame.schema)}, expected {schema.polars()}")
    return frame


def _joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    alike = len({frame.width for frame in frames}) == 1
    if alike:
        return pl.concat(frames)
    return pl.concat(frames, how="diagonal").with_columns(pl.col(DELETED).fill_null(value=False))
