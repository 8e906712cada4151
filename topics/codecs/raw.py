"""`raw`: the record's value as it is, in one Binary column (by custom named `value`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from ..arrow_buffers import series_binary
from ..codec import BadRow, Decoded
from ..errors import SchemaError
from ..schema import Schema

NULL_VALUE: Final = "null value"


class RawCodec:
    """Bytes in, bytes out."""

    @property
    def name(self) -> str:
        return "raw"

    def check(self, schema: Schema) -> None:
        only_column(schema, pl.Binary(), "raw", "{'value': 'bytes'}")

    def decode(self, values: Sequence[bytes | None], schema: Schema) -> Decoded:
        column = pl.Series(schema.names[0], list(values), dtype=pl.Binary)
        return without_nulls(column.to_frame())

    def encode(self, frame: pl.DataFrame) -> pa.LargeBinaryArray:
        """The frame's only column; a null is a null value (a tombstone)."""
        return series_binary(written_column(frame, pl.Binary(), "raw"))


CODEC: Final = RawCodec()


def only_column(schema: Schema, dtype: pl.DataType, codec: str, example: str) -> None:
    """Raises SchemaError unless the schema is one column of this type."""
    if len(schema.columns) != 1 or schema.columns[0][1] != dtype:
        given = ", ".join(f"{name}: {kind}" for name, kind in schema)
        raise SchemaError(f"the {codec} codec carries one {dtype} column, as in {example}; the schema has {given}")


def written_column(frame: pl.DataFrame, dtype: pl.DataType, codec: str) -> pl.Series:
    """The frame's only column. Raises SchemaError where there are more, or it has another type."""
    if frame.width != 1 or frame.dtypes[0] != dtype:
        given = ", ".join(f"{name}: {kind}" for name, kind in frame.schema.items())
        raise SchemaError(f"the {codec} codec writes one {dtype} column; the frame has {given}. Select one first")
    return frame.to_series()


def without_nulls(frame: pl.DataFrame, bad: Sequence[BadRow] = ()) -> Decoded:
    """Rows of a one-column frame that are not null; the null ones are bad: as `bad` says, else null values."""
    column = frame.to_series()
    if not column.null_count():
        return Decoded(frame, None)
    reasons = {row.row: row.reason for row in bad}
    nulls = column.is_null().arg_true().to_list()
    rows = column.is_not_null().arg_true().to_numpy().astype(np.int64)
    return Decoded(frame.drop_nulls(), rows, [BadRow(row, reasons.get(row, NULL_VALUE)) for row in nulls])
