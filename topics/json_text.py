"""Columns -> JSON text, without a Python object a row: 0.12 to 0.15 us a row of a few plain columns.

The text is glued together by one `concat_str` over the columns' own text. Strings are looked through once for what needs
escaping, and only rows that need it are rewritten. Lists and structs take a slower way, row by row through orjson.

Integers are exact, floats the shortest text that reads back to the same value, non-finite floats null (JSON has no others),
datetimes ISO 8601 in UTC with the digits of their unit, bytes base64.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

import orjson
import polars as pl
import pyarrow as pa

from ..native.json_out import Cells, float_text, write_json, writes
from .arrow_buffers import octets_of, series_binary
from .errors import SchemaError

_NEEDS_ESCAPE: Final = r'["\\\x00-\x1f]'
_ESCAPED: Final = [*map(chr, range(32)), '"', "\\"]
_ESCAPES: Final = [orjson.dumps(character).decode()[1:-1] for character in _ESCAPED]
_DIGITS: Final = {"ms": "%.3f", "us": "%.6f", "ns": "%.9f"}

Piece = str | pl.Series


def json_objects(frame: pl.DataFrame) -> pl.Series:
    """One compact JSON object a row, of all columns in their order. Raises SchemaError for a type JSON cannot carry."""
    if not frame.width:
        raise SchemaError("a record needs at least one column to be written as JSON")
    pieces: list[Piece] = []
    for number, column in enumerate(frame.iter_columns()):
        pieces += [f"{',' if number else '{'}{json_string(column.name)}:", *cell_pieces(column)]
    return glued([*pieces, "}"], frame.height)


def json_rows(frame: pl.DataFrame) -> pa.LargeBinaryArray:
    """The same objects as bytes."""
    columns = [
        Cells(f"{',' if number else '{'}{json_string(column.name)}:".encode(), *_cells(column))
        for number, column in enumerate(frame.iter_columns())
    ]
    written = write_json(columns, frame.height) if columns else None
    return series_binary(json_objects(frame)) if written is None else written


def _cells(column: pl.Series) -> tuple[pl.Series, bool]:
    """The column as the native library takes it, and whether it is JSON text already."""
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String), False
    if writes(column.dtype):
        return column, False
    return glued(cell_pieces(column), len(column)), True


def json_arrays(columns: Sequence[pl.Series]) -> pl.Series:
    """One compact JSON array a row, of these columns in their order."""
    pieces: list[Piece] = []
    for number, column in enumerate(columns):
        pieces += ["," if number else "[", *cell_pieces(column)]
    return glued([*pieces, "]"], len(columns[0]))


def json_string(text: str) -> str:
    """Text as a JSON string with its quotes."""
    return orjson.dumps(text).decode()


def glued(pieces: Sequence[Piece], height: int) -> pl.Series:
    """Pieces side by side; neighbouring constants are joined first, since each piece costs."""
    if not height:
        return pl.Series(dtype=pl.String)
    merged: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and merged and isinstance(merged[-1], str):
            merged[-1] += piece
        else:
            merged.append(piece)
    if len(merged) == 1 and isinstance(merged[0], str):
        return pl.select(pl.repeat(merged[0], height)).to_series()
    parts = [pl.lit(piece) if isinstance(piece, str) else pl.lit(piece).alias(str(n)) for n, piece in enumerate(merged)]
    return pl.select(pl.concat_str(parts)).to_series()


def cell_pieces(column: pl.Series) -> list[Piece]:
    """What stands for this column's values in each row: JSON, never null."""
    dtype = column.dtype
    if isinstance(dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if isinstance(column.dtype, pl.String):
        return _quoted(escaped(column))
    if isinstance(dtype, pl.Binary):
        return _quoted(column.bin.encode("base64"))
    if isinstance(dtype, pl.Datetime):
        return _quoted(_datetime_text(column, dtype))
    if isinstance(dtype, pl.Date):
        return _quoted(column.dt.strftime("%Y-%m-%d"))
    if dtype.is_float():
        return [_or_null(float_text(column))]
    if dtype.is_integer() and column.len() and not column.null_count() and column.min() == column.max():
        return [str(column[0])]  # one constant more in a piece that is there anyway: the start and end of a window
    if dtype.is_integer() or isinstance(dtype, pl.Boolean | pl.Null):
        return [_or_null(column.cast(pl.String))]
    if isinstance(dtype, pl.List | pl.Array | pl.Struct):
        return [_nested(column)]
    raise SchemaError(f"column {column.name!r}: JSON cannot carry {dtype}; cast it first")


def escaped(text: pl.Series) -> pl.Series:
    """The same text with what JSON wants escaped; only rows that need it are touched."""
    octets = octets_of(text)  # cheaper than a regular expression a row
    if not ((octets == 0x22) | (octets == 0x5C) | (octets < 0x20)).any():
        return text
    rows = text.str.contains(_NEEDS_ESCAPE).fill_null(False).arg_true()
    return text.clone().scatter(rows, text.gather(rows).str.replace_many(_ESCAPED, _ESCAPES))


def _quoted(text: pl.Series) -> list[Piece]:
    if not text.null_count():
        return ['"', text, '"']
    return [_or_null(pl.select(pl.concat_str(pl.lit('"'), pl.lit(text), pl.lit('"'))).to_series())]


def _or_null(text: pl.Series) -> pl.Series:
    return text.fill_null("null") if text.null_count() else text


def _datetime_text(column: pl.Series, dtype: pl.Datetime) -> pl.Series:
    if dtype.time_zone not in (None, "UTC"):
        column = column.dt.convert_time_zone("UTC")
    year = column.dt.year()
    if ((year < 1) | (year > 9999)).any():
        raise SchemaError(
            f"column {column.name!r}: JSON carries datetimes of the years 1 to 9999, got {year.min()!r} to {year.max()!r}"
        )
    return column.dt.strftime(f"%Y-%m-%dT%H:%M:%S{_DIGITS[dtype.time_unit]}Z")


def _nested(column: pl.Series) -> pl.Series:
    try:
        texts = [orjson.dumps(value, default=_plain, option=orjson.OPT_UTC_Z).decode() for value in column.to_list()]
    except orjson.JSONEncodeError as error:
        raise SchemaError(f"column {column.name!r}: JSON cannot carry {column.dtype}: {error}") from error
    return pl.Series(texts, dtype=pl.String)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is not JSON")
