"""Rows of a table survive being written to a changelog and read again."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.workers.errors import PlanError
from millstream.workers.row_bytes import RowBytes

SCHEMA = {
    "s": pl.String(),
    "i": pl.Int64(),
    "small": pl.Int32(),
    "f": pl.Float64(),
    "f32": pl.Float32(),
    "b": pl.Boolean(),
    "raw": pl.Binary(),
    "at": pl.Datetime("ms", "UTC"),
    "day": pl.Date(),
    "list": pl.List(pl.String()),
    "struct": pl.Struct({"x": pl.Int64(), "y": pl.List(pl.Float64())}),
}
CELLS = {
    "s": st.text(),
    "i": st.integers(-(2**63), 2**63 - 1),
    "small": st.integers(-(2**31), 2**31 - 1),
    "f": st.floats(),
    "f32": st.floats(width=32),
    "b": st.booleans(),
    "raw": st.binary(),
    "at": st.datetimes(datetime(1, 1, 2), datetime(9999, 1, 1)).map(
        lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)
    ),
    "day": st.dates(date(1, 1, 1)),
    "list": st.lists(st.none() | st.text()),
    "struct": st.fixed_dictionaries({"x": st.none() | st.integers(-99, 99), "y": st.lists(st.floats(-1e9, 1e9))}),
}
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | cell for name, cell in CELLS.items()}), max_size=6)


@given(ROWS)
def test_decode_is_the_inverse_of_encode(rows: list[dict[str, object]]) -> None:
    """Cell for cell, nulls, NaN and infinities included."""
    frame = pl.DataFrame(rows, schema=SCHEMA, strict=True)
    codec = RowBytes(SCHEMA)
    assert codec.decode(codec.encode(frame)).equals(frame)


def test_more_columns_than_bits_in_a_word() -> None:
    names = [f"c{number}" for number in range(130)]
    frame = pl.DataFrame(
        {name: [None if at % 3 else at, at] for at, name in enumerate(names)},
        schema_overrides=dict.fromkeys(names, pl.Int64()),
    )
    codec = RowBytes(dict(frame.schema))
    assert codec.decode(codec.encode(frame)).equals(frame)


def test_a_type_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(PlanError, match="column 'd' of type Object cannot be kept in a table"):
        RowBytes({"d": pl.Object()})
