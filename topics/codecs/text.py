"""`text`: the record's value is UTF-8 text, in the schema's only column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl
import pyarrow as pa

from ..arrow_buffers import series_binary
from ..codec import BadRow, Decoded
from ..schema import Schema
from .raw import only_column, without_nulls, written_column


class TextCodec:
    """UTF-8 in, UTF-8 out. A value that is not UTF-8 is a bad row that says at which byte."""

    @property
    def name(self) -> str:
        return "text"

    def check(self, schema: Schema) -> None:
        only_column(schema, pl.String(), "text", "{'text': 'string'}")

    def decode(self, values: Sequence[bytes | None], schema: Schema) -> Decoded:
        column = schema.names[0]
        try:
            text = pl.Series(column, list(values), dtype=pl.Binary).cast(pl.String)
        except pl.exceptions.PolarsError:
            return _one_by_one(values, column)
        return without_nulls(text.to_frame())

    def encode(self, frame: pl.DataFrame) -> pa.LargeBinaryArray:
        """The frame's only column; a null is a null value (a tombstone)."""
        return series_binary(written_column(frame, pl.String(), "text"))


CODEC: Final = TextCodec()


def _one_by_one(values: Sequence[bytes | None], column: str) -> Decoded:
    texts: list[str | None] = []
    bad: list[BadRow] = []
    for row, value in enumerate(values):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError as error:
            texts.append(None)
            bad.append(BadRow(row, f"not UTF-8: {error.reason} at byte {error.start}"))
    return without_nulls(pl.DataFrame({column: texts}, schema={column: pl.String}), bad)
