"""JSON read record by record: the rule of what is accepted, exact and slow. The fast way (`codecs/json.py`) must agree.

| type             | JSON accepted                                                                                     |
|------------------|---------------------------------------------------------------------------------------------------|
| string           | a string                                                                                          |
| integers         | a number written without `.` and `e`, within the type's range ("12", 1.5, 1.0 and true are not)   |
| float, float32   | a number; an integer is one too. float32: its magnitude must fit                                  |
| bool             | true, false                                                                                       |
| bytes            | a string of base64 (standard alphabet, padded)                                                    |
| datetime         | a string `2026-01-31T10:20:30.123Z`; `T` may be a space; seconds, fraction, zone or the whole     |
|                  | time may be left out; no zone means UTC; digits finer than the unit (at most us) are cut off          |
| List, Struct     | an array, an object, of the above                                                                 |

`null` and a missing field are null; fields the schema does not have are ignored; of a repeated field the last one counts.
Not accepted as a record: anything but one object, NaN and Infinity, a byte order mark, invalid UTF-8, lone surrogates.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import polars as pl

from .codec import BadRow
from .schema import Schema

INTEGER_BITS: Final[Mapping[type[pl.DataType], tuple[int, bool]]] = {
    pl.Int8: (8, True),
    pl.Int16: (16, True),
    pl.Int32: (32, True),
    pl.Int64: (64, True),
    pl.UInt8: (8, False),
    pl.UInt16: (16, False),
    pl.UInt32: (32, False),
    pl.UInt64: (64, False),
}
"""Integer types: bits and whether signed."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE: Final = datetime(1970, 1, 1)
_MICROS: Final = (-62_135_596_800_000_000, 253_402_300_799_999_999)
"""The years 1 to 9999."""
_MICROS_OF_NS: Final = (-9_223_372_036_854_775, 9_223_372_036_854_775)
"""What int64 nanoseconds can hold."""
_ISO: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?(?:[Zz]|([+-])(\d\d):?(\d\d))?", re.ASCII
)
_SHOWN_MAX: Final = 60
"""Characters of a wrong value shown in a reason."""

Convert = Callable[[Any, str], Any]
"""(JSON value that is not null, its path) -> value for polars; raises WrongValueError."""


class WrongValueError(ValueError):
    """One value does not fit; the text is the reason with its path. Never leaves the codecs."""


def decode_rows(values: Sequence[bytes | None], schema: Schema) -> tuple[pl.DataFrame, list[int], list[BadRow]]:
    """Frame of the readable rows, their row numbers, and the bad ones. About 1 us a record."""
    documents, bad = _documents(values)
    columns: dict[str, list[Any]] = {}
    for name, dtype in schema:
        columns[name] = _column([document.get(name) for document in documents], name, dtype, bad)
    good = [row for row in range(len(values)) if row not in bad] if bad else list(range(len(values)))
    frame = pl.DataFrame(
        [
            pl.Series(name, [cells[row] for row in good] if bad else cells, dtype=dtype, strict=True)
            for (name, dtype), cells in zip(schema, columns.values(), strict=True)
        ]
    )
    return frame, good, [BadRow(row, bad[row]) for row in sorted(bad)]


def _documents(values: Sequence[bytes | None]) -> tuple[list[dict[str, Any]], dict[int, str]]:
    documents: list[dict[str, Any]] = []
    bad: dict[int, str] = {}
    for row, value in enumerate(values):
        document, reason = _document(value)
        documents.append(document)
        if reason is not None:
            bad[row] = reason
    return documents, bad


def _document(value: bytes | None) -> tuple[dict[str, Any], str | None]:
    if value is None:
        return {}, "null value"
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return {}, f"not JSON: {error}"
    if type(document) is not dict:
        return {}, f"expected an object, got {shown(document)} - at $"
    return document, None


def _column(cells: list[Any], name: str, dtype: pl.DataType, bad: dict[int, str]) -> list[Any]:
    if set(map(type, cells)) <= as_they_are(dtype):
        return cells
    convert, path = converter(dtype), f"$.{name}"
    for row, cell in enumerate(cells):
        if cell is None or row in bad:
            continue
        try:
            cells[row] = convert(cell, path)
        except WrongValueError as error:
            bad[row] = str(error)
    return cells


def as_they_are(dtype: pl.DataType) -> set[type]:
    """Python types that need no look at each value."""
    if isinstance(dtype, pl.String):
        return {str, type(None)}
    if isinstance(dtype, pl.Float64):
        return {float, type(None)}
    if isinstance(dtype, pl.Boolean):
        return {bool, type(None)}
    return {type(None)}


def converter(dtype: pl.DataType) -> Convert:
    """How values of this type are checked and converted. Raises TypeError for a type JSON cannot carry."""
    if type(dtype) in INTEGER_BITS:
        return _integers(*INTEGER_BITS[type(dtype)])
    if isinstance(dtype, pl.Datetime):
        return _datetimes(dtype)
    if isinstance(dtype, pl.List):
        return _lists(dtype)
    if isinstance(dtype, pl.Struct):
        return _structs(dtype)
    simple = {pl.String: _string, pl.Float64: _float, pl.Float32: _float32, pl.Boolean: _bool, pl.Binary: _bytes}
    if type(dtype) not in simple:
        raise TypeError(f"JSON cannot carry {dtype}")
    return simple[type(dtype)]


def shown(value: Any) -> str:
    """A value for a reason: short, in Python's notation."""
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."


def _wrong(expected: str, value: Any, path: str) -> WrongValueError:
    return WrongValueError(f"expected {expected}, got {shown(value)} - at {path}")


def _string(value: Any, path: str) -> str:
    if type(value) is not str:
        raise _wrong("string", value, path)
    return value


def _bool(value: Any, path: str) -> bool:
    if type(value) is not bool:
        raise _wrong("bool", value, path)
    return value


def _float(value: Any, path: str) -> float:
    if type(value) is not float and type(value) is not int:
        raise _wrong("float", value, path)
    return float(value)


def _float32(value: Any, path: str) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", _float(value, path)))[0])
    except OverflowError:
        raise _wrong("float32", value, path) from None


def _bytes(value: Any, path: str) -> bytes:
    if type(value) is not str:
        raise _wrong("bytes as base64", value, path)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong("bytes as base64", value, path) from None


def _integers(bits: int, signed: bool) -> Convert:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    expected = "int" if (bits, signed) == (64, True) else f"{'' if signed else 'u'}int{bits}"

    def convert(value: Any, path: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _wrong(expected, value, path)
        return value

    return convert


def _lists(dtype: pl.List) -> Convert:
    inner_type = dtype.inner() if isinstance(dtype.inner, type) else dtype.inner
    inner, plain = converter(inner_type), as_they_are(inner_type)

    def convert(value: Any, path: str) -> list[Any]:
        if type(value) is not list:
            raise _wrong("array", value, path)
        if set(map(type, value)) <= plain:
            return value
        return [None if cell is None else inner(cell, f"{path}[{index}]") for index, cell in enumerate(value)]

    return convert


def _structs(dtype: pl.Struct) -> Convert:
    fields = [
        (field.name, converter(field.dtype() if isinstance(field.dtype, type) else field.dtype))
        for field in dtype.fields
    ]

    def convert(value: Any, path: str) -> dict[str, Any]:
        if type(value) is not dict:
            raise _wrong("object", value, path)
        cells = ((name, inner, value.get(name)) for name, inner in fields)
        return {name: None if cell is None else inner(cell, f"{path}.{name}") for name, inner, cell in cells}

    return convert


def _datetimes(dtype: pl.Datetime) -> Convert:
    unit, zone = dtype.time_unit, dtype.time_zone

    def convert(value: Any, path: str) -> datetime:
        ticks = _ticks(value, unit) if type(value) is str else None
        if ticks is None:
            raise _wrong("datetime as in 2026-01-31T10:20:30.123Z", value, path)
        return (_EPOCH if zone else _NAIVE) + timedelta(microseconds=ticks)

    return convert


def _ticks(text: str, unit: str) -> int | None:
    """Microseconds since the epoch, cut to the unit; None where the text is no time."""
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = match.groups(default="0")
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
    if int(zone_hours) > 23 or int(zone_minutes) > 59:
        return None
    offset_minutes = int(zone_hours) * 60 + int(zone_minutes)
    seconds = (moment - _EPOCH) // timedelta(seconds=1) - (-60 if sign == "-" else 60) * offset_minutes
    digits = int(fraction.ljust(9, "0")[: 3 if unit == "ms" else 6].ljust(6, "0"))
    micros = seconds * 1_000_000 + digits
    low, high = _MICROS_OF_NS if unit == "ns" else _MICROS
    return micros if low <= micros <= high else None
