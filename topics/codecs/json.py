"""`json`: one JSON object a record. Read with polars in one go, exact all the same.

What is accepted is the table in `json_values.py`, whose record-by-record reading is the rule. The fast way reads all records
at once as NDJSON (0.3 to 0.4 us a record) and then doubts what polars is known to be lenient about:

- a record holding line breaks, or blank ones: rows would no longer be records, so the whole piece is read slowly;
- any value where a string is expected (it is given as its text): text that looks like a number, a literal, an array or an
  object is believed only where the record shows `"name":"`, once, and holds no escape;
- repeated fields (polars takes the first, JSON's usage is the last): a record with as many quotes as its fields need has none;
  otherwise each name is counted;
- lone surrogates (given as NUL), float32 overflow (given as infinity), base64 and datetimes that did not parse.

Doubtful rows, and they alone, are read again the slow way. Where polars refuses the whole piece, it is read again in small
pieces, so that a bad record makes only its neighbours slower, never wrong. Below 500 records the slow way is the faster one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ...native.json_in import read_json
from ...native.records import slices_of
from ..arrow_buffers import first_octets
from ..codec import BadRow, Decoded
from ..errors import SchemaError
from ..json_text import json_rows
from ..json_values import INTEGER_BITS, converter, decode_rows
from ..schema import Schema

_FAST_MIN: Final = 500
"""Records; below, one polars call costs more than orjson's loop."""
_NATIVE_MIN: Final = 20
"""Records; the same for the native library."""
_PIECE: Final = 512
"""Records in a piece when the whole was refused."""

_LOOKS_LIKE_OTHER: Final = np.zeros(256, dtype=np.bool_)
_LOOKS_LIKE_OTHER[list(b"-0123456789tf[{")] = True
_OTHER: Final = r"^(?:-?[0-9]|true$|false$|\[|\{)"
_NEWLINE, _QUOTE, _BACKSLASH = b'\n"\\'
_LONE_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_PLAIN_NAME: Final = re.compile(r'[^,:"\\\x00-\x1f]+')
_PLAIN_DATETIME: Final = r"^(?:000[1-9]|00[1-9]\d|0[1-9]\d\d|[1-9]\d{3})-\d\d-\d\dT\d\d:\d\d:[0-5]\d(?:\.\d{1,9})?Z$"

Flags = NDArray[np.bool_]


class JsonCodec:
    """One JSON object a record."""

    @property
    def name(self) -> str:
        return "json"

    def check(self, schema: Schema) -> None:
        for column, dtype in schema:
            try:
                converter(dtype)
            except TypeError as error:
                raise SchemaError(f"column {column!r}: {error}; use the types of topics/schema.py") from None

    def encode(self, frame: pl.DataFrame) -> pa.LargeBinaryArray:
        """About 0.15 us a row for plain columns; lists and structs about 1 us."""
        return json_rows(frame)

    def decode(self, values: Sequence[bytes | None], schema: Schema) -> Decoded:
        if len(values) >= _NATIVE_MIN and (found := _read_native(values, schema)) is not None:
            return found
        records = values if isinstance(values, list) else list(values)
        if len(records) < _FAST_MIN or not all(_fast_type(dtype) for _, dtype in schema):
            return _decoded(records, schema)
        read = _read_fast(records, schema)
        if read is not None:
            return read
        pieces = [records[start : start + _PIECE] for start in range(0, len(records), _PIECE)]
        return _joined([_read_fast(piece, schema) or _decoded(piece, schema) for piece in pieces])


CODEC: Final = JsonCodec()


def _decoded(records: Sequence[bytes | None], schema: Schema) -> Decoded:
    frame, rows, bad = decode_rows(records, schema)
    return Decoded(frame, np.array(rows, dtype=np.int64) if bad else None, bad)


def _joined(pieces: Sequence[Decoded]) -> Decoded:
    start, rows, bad = 0, [], []
    for piece in pieces:
        count = len(piece.frame) + len(piece.bad)
        own = np.arange(count, dtype=np.int64) if piece.rows is None else piece.rows
        rows.append(own + start)
        bad += [BadRow(row.row + start, row.reason) for row in piece.bad]
        start += count
    return Decoded(pl.concat([piece.frame for piece in pieces]), np.concatenate(rows) if bad else None, bad)


def _fast_type(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.List):
        return isinstance(dtype.inner, pl.DataType) and _strict_number(dtype.inner)
    return isinstance(dtype, pl.String | pl.Boolean | pl.Binary | pl.Datetime) or _strict_number(dtype)


def _strict_number(dtype: pl.DataType) -> bool:
    return type(dtype) in INTEGER_BITS or isinstance(dtype, pl.Float32 | pl.Float64)


def _read_as(dtype: pl.DataType) -> pl.DataType:
    """The type in JSON's own terms: what it writes as a string is one at first."""
    return pl.String() if isinstance(dtype, pl.Binary | pl.Datetime) else dtype


def _read_fast(records: list[bytes | None], schema: Schema) -> Decoded | None:
    """None where polars refuses, or rows would not be records."""
    try:
        blob = b"\n".join(records)  # type: ignore[arg-type]
    except TypeError:
        return None  # a null value among them
    octets = np.frombuffer(blob, dtype=np.uint8)
    if int(np.count_nonzero(octets == _NEWLINE)) != len(records) - 1:
        return None
    read_as = {name: _read_as(dtype) for name, dtype in schema}
    try:
        read = pl.read_ndjson(blob, schema=read_as)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None  # which record it was, and why, the slow way says
    if read.height != len(records):
        return None
    read = read.rechunk()
    frame, doubt = _converted(read, schema)
    doubt = _doubtful(read, blob, records, doubt)
    return Decoded(frame, None) if doubt is None else _read_again(frame, doubt, records, schema)


def _read_native(values: Sequence[bytes | None], schema: Schema) -> Decoded | None:
    """None where the native library is missing or cannot read one of the types."""
    read = read_json(slices_of(values), [(name, _read_as(dtype)) for name, dtype in schema])
    if read is None:
        return None
    frame, more = _converted(read[0], schema)
    doubt = read[1] if more is None else read[1] | more
    return _read_again(frame, doubt, values, schema) if doubt.any() else Decoded(frame, None)


def _read_again(frame: pl.DataFrame, doubt: Flags, records: Sequence[bytes | None], schema: Schema) -> Decoded:
    doubted = np.flatnonzero(doubt)
    again, good, bad = decode_rows([records[row] for row in doubted.tolist()], schema)
    rows = np.concatenate([np.flatnonzero(~doubt), doubted[good]])
    order = np.argsort(rows, kind="stable")
    merged = pl.concat([frame.filter(~pl.Series(doubt)), again])[order]
    reasons = [BadRow(int(doubted[row.row]), row.reason) for row in bad]
    return Decoded(merged, rows[order] if bad else None, reasons)


def _converted(read: pl.DataFrame, schema: Schema) -> tuple[pl.DataFrame, Flags | None]:
    """Text to bytes and datetimes; doubt where it did not parse, and where a float32 overflowed."""
    columns, doubts = [], []
    for column, (_, dtype) in zip(read.iter_columns(), schema, strict=True):
        converted = column
        if isinstance(dtype, pl.Binary):
            converted = column.str.decode("base64", strict=False)
        elif isinstance(dtype, pl.Datetime):
            converted = _datetimes(column, dtype)
        elif isinstance(dtype, pl.Float32):
            doubts.append(column.is_infinite())
        elif isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Float32):
            doubts.append(column.list.max().is_infinite() | column.list.min().is_infinite())
        if converted is not column and converted.null_count() != column.null_count():
            doubts.append(converted.is_null() & column.is_not_null())
        columns.append(converted)
    flags = [doubt.fill_null(False).to_numpy() for doubt in doubts if doubt.any()]
    return pl.DataFrame(columns), np.logical_or.reduce(flags) if flags else None


def _datetimes(column: pl.Series, dtype: pl.Datetime) -> pl.Series:
    """The common form at once; any other is null here, and read again."""
    plain = column.str.contains(_PLAIN_DATETIME)
    text = column if plain.all() else pl.select(pl.when(plain).then(column)).to_series().alias(column.name)
    unit: Literal["ms", "us"] = "ms" if dtype.time_unit == "ms" else "us"
    moments = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit=unit, strict=False)
    return moments.cast(pl.Datetime(dtype.time_unit)).dt.replace_time_zone(dtype.time_zone)


def _doubtful(read: pl.DataFrame, blob: bytes, records: list[bytes | None], doubt: Flags | None) -> Flags | None:
    """Rows to be read again, or None when there are none. Whole-piece counts first: they nearly always suffice."""
    texts = [column for column in read.iter_columns() if isinstance(column.dtype, pl.String)]
    escapes = _BACKSLASH in blob
    candidates = [(column, rows) for column in texts if len(rows := _other_looking(column))]
    candidates = [(column, rows) for column, rows in candidates if escapes or not _all_strings(column, blob)]
    surrogates = escapes and _LONE_SURROGATE.search(blob) is not None
    cells = sum(read.height - column.null_count() for column in [*read.iter_columns(), *texts])
    quotes = int(np.count_nonzero(np.frombuffer(blob, dtype=np.uint8) == _QUOTE))
    repeated = quotes != 2 * cells and (escapes or not all(_each_once(column, blob) for column in read.iter_columns()))
    if doubt is None and not candidates and not surrogates and not repeated:
        return None
    raw = pl.Series(records, dtype=pl.Binary).cast(pl.String)
    flags = np.zeros(read.height, dtype=np.bool_) if doubt is None else doubt.copy()
    for column, rows in candidates:
        flags[rows[~_shown_as_string(raw.gather(rows), column.name)]] = True
    if surrogates:
        flags |= raw.str.contains(r"\\u[dD][89a-fA-F]").to_numpy()
    if candidates or repeated:
        flags |= _maybe_repeated(read, texts, raw)
    return flags if flags.any() else None


def _each_once(column: pl.Series, blob: bytes) -> bool:
    """Whether the name stands exactly once in each record that has a value, and in no other. Sure without escapes."""
    name = column.name
    return _PLAIN_NAME.fullmatch(name) is not None and blob.count(f'"{name}"'.encode()) == column.count()


def _all_strings(column: pl.Series, blob: bytes) -> bool:
    """Whether each of those names is followed by a string."""
    quoted = f'"{column.name}":'.encode()
    return _each_once(column, blob) and blob.count(quoted + b'"') + blob.count(quoted + b' "') == column.count()


def _other_looking(column: pl.Series) -> NDArray[np.int64]:
    """Rows whose text could be that of a number, a literal, an array or an object. Looks at first bytes only, mostly."""
    rows = np.flatnonzero(_LOOKS_LIKE_OTHER[first_octets(column)])
    if not len(rows):
        return rows
    other: Flags = column.gather(rows).str.contains(_OTHER).fill_null(False).to_numpy()
    return rows[other]


def _shown_as_string(raw: pl.Series, name: str) -> Flags:
    """Whether these records surely hold a string under that name: without escapes a quoted name is a whole token."""
    if not _PLAIN_NAME.fullmatch(name):
        return np.zeros(len(raw), dtype=np.bool_)
    quoted = f'"{name}"'
    string = raw.str.contains(rf"{re.escape(quoted)}[ \t\r]*:[ \t\r]*\"")
    once = raw.str.count_matches(quoted, literal=True) == 1
    return (string & once & ~raw.str.contains("\\", literal=True)).to_numpy()


def _maybe_repeated(read: pl.DataFrame, texts: Sequence[pl.Series], raw: pl.Series) -> Flags:
    """Rows where a field of the schema may stand more than once."""
    needed = np.zeros(read.height, dtype=np.int64)
    for column in [*read.iter_columns(), *texts]:
        needed += column.is_not_null().to_numpy()
    rows = np.flatnonzero(raw.str.count_matches('"', literal=True).to_numpy() != 2 * needed)
    flags = np.zeros(read.height, dtype=np.bool_)
    if len(rows):
        some = raw.gather(rows)
        several = some.str.contains("\\", literal=True)
        for name in read.columns:
            if _PLAIN_NAME.fullmatch(name):
                several |= some.str.count_matches(f'"{name}"', literal=True) > 1
            else:
                several |= pl.Series([True])
        flags[rows] = several.to_numpy()
    return flags
