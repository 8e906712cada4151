"""Key columns <-> key bytes, as every part of Millstream writes them.

- One string column: its UTF-8. A null is a null key.
- Anything else: a compact JSON array of the columns in their order, `[7]`, `["a",null,1.5]`. A single column that is null is
  a null key; among several columns a null is JSON's `null`, so the key is there.

Both ways are exact (a property test), except for floats that are not finite: JSON has none, they are written as null.
Columns in keys may be what the `json` codec carries; bytes are base64, datetimes ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
import polars as pl
import pyarrow as pa

from .arrow_buffers import series_binary
from .errors import SchemaError
from .json_text import json_arrays
from .json_values import WrongValueError, as_they_are, converter
from .schema import Schema

_NAME: Final = "key"


def key_text(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """The key of each row as a String column named "key"; null where the key is null.

    Raises SchemaError when no column is given, one is missing, or its type cannot be in a key.
    """
    parts = _parts(frame, columns)
    if len(parts) == 1 and isinstance(parts[0].dtype, pl.String):
        return parts[0].alias(_NAME)
    text = json_arrays(parts).alias(_NAME)
    if len(parts) > 1 or not parts[0].null_count():
        return text
    return pl.select(pl.when(parts[0].is_not_null()).then(text).alias(_NAME)).to_series()


def key_column(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """The key of each row as the cheapest column that holds its bytes: String (whose bytes are UTF-8)."""
    return key_text(frame, columns)


def key_bytes(frame: pl.DataFrame, columns: Sequence[str]) -> pa.LargeBinaryArray:
    """The key of each row as a producer sends it."""
    return series_binary(key_text(frame, columns))


def columns_of(keys: pl.Series, schema: Schema) -> pl.DataFrame:
    """The inverse: the key columns of keys (String or Binary). `schema`: the key columns only, in their order.

    A null key gives nulls. Raises SchemaError naming a key that these columns did not make.
    """
    try:
        text = keys.cast(pl.String)
    except pl.exceptions.PolarsError as error:
        raise SchemaError(f"keys of ({', '.join(schema.names)}) are not UTF-8: {error}") from error
    if len(schema.columns) == 1 and isinstance(schema.columns[0][1], pl.String):
        return text.alias(schema.names[0]).to_frame()
    rows = _arrays(text, len(schema.columns), schema)
    cells = zip(*rows, strict=True) if rows else ([] for _ in schema)
    return pl.DataFrame([_cells(name, dtype, column) for (name, dtype), column in zip(schema, cells, strict=True)])


def _parts(frame: pl.DataFrame, columns: Sequence[str]) -> list[pl.Series]:
    if not columns:
        raise SchemaError("a key needs at least one column")
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise SchemaError(f"key column {missing[0]!r} is not among {', '.join(frame.columns)}")
    return [frame[name] for name in columns]


def _arrays(text: pl.Series, width: int, schema: Schema) -> list[list[Any]]:
    """All keys parsed by one call: they are glued into one array."""
    nothing = "[" + ",".join(["null"] * width) + "]"
    glued = "[" + ",".join(text.fill_null(nothing).to_list()) + "]"
    try:
        rows: list[list[Any]] = orjson.loads(glued)
    except orjson.JSONDecodeError as error:
        raise SchemaError(f"keys of ({', '.join(schema.names)}) are not JSON arrays: {error}") from error
    wrong = [row for row in rows if type(row) is not list or len(row) != width]
    if wrong or len(rows) != len(text):
        shown = orjson.dumps(wrong[0]).decode() if wrong else f"{len(rows)} values in {len(text)} keys"
        raise SchemaError(f"keys of ({', '.join(schema.names)}) are arrays of {width}, got {shown}")
    return rows


def _cells(name: str, dtype: pl.DataType, column: Sequence[Any]) -> pl.Series:
    if set(map(type, column)) <= as_they_are(dtype):
        return pl.Series(name, column, dtype=dtype, strict=True)
    convert = converter(dtype)
    try:
        return pl.Series(name, [None if cell is None else convert(cell, f"$.{name}") for cell in column], dtype=dtype)
    except WrongValueError as error:
        raise SchemaError(f"key: {error}") from error
