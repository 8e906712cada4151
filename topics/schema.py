"""A schema: which columns a record's value has, and their types.

Written as a mapping of names to type names (`{"user": "string", "price": "float", "ts": "timestamp_ms"}`), in Python and in
YAML alike; polars types and the Python types `str, int, float, bool, bytes` are understood too. A trailing `?` is allowed
for the reader's sake and means nothing: every column but the event time may be null, as in SQL.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from .batch import INTERNAL_COLUMNS
from .errors import SchemaError

ColumnType = str | type | pl.DataType | type[pl.DataType]

TYPES: Final[Mapping[str, pl.DataType]] = {
    "string": pl.String(),
    "int": pl.Int64(),
    "int32": pl.Int32(),
    "float": pl.Float64(),
    "float32": pl.Float32(),
    "bool": pl.Boolean(),
    "bytes": pl.Binary(),
    "timestamp_ms": pl.Int64(),
    "datetime": pl.Datetime("ms", "UTC"),
}
"""Type names. `timestamp_ms` is int64 milliseconds since the epoch; `datetime` is ISO 8601 text in JSON."""

_PYTHON: Final[Mapping[type, pl.DataType]] = {
    str: pl.String(),
    int: pl.Int64(),
    float: pl.Float64(),
    bool: pl.Boolean(),
    bytes: pl.Binary(),
}


def type_text(kind: pl.DataType) -> str:
    """A type's name as it is written in a schema; of one without a name, polars' text."""
    return next((name for name, known in TYPES.items() if known == kind), str(kind))


@dataclass(frozen=True, slots=True)
class Schema:
    """Columns in their order."""

    columns: tuple[tuple[str, pl.DataType], ...]

    @classmethod
    def of(cls, columns: Mapping[str, ColumnType] | Schema) -> Schema:
        """Raises SchemaError naming the column, the type given and those there are."""
        if isinstance(columns, Schema):
            return columns
        if not columns:
            raise SchemaError("a schema needs at least one column, as in {'user': 'string', 'ts': 'timestamp_ms'}")
        return cls(tuple((_checked_name(name), _data_type(name, kind)) for name, kind in columns.items()))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.columns]

    def __iter__(self) -> Iterator[tuple[str, pl.DataType]]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return any(name == column for column, _ in self.columns)

    def text(self, names: Iterable[str] | None = None) -> str:
        """`user: string, price: float`, of these columns or of all."""
        kinds = dict(self.columns)
        return ", ".join(f"{name}: {type_text(kinds[name])}" for name in (self.names if names is None else names))

    def polars(self) -> dict[str, pl.DataType]:
        """As polars takes it: `{name: dtype}`."""
        return dict(self.columns)

    def empty(self) -> pl.DataFrame:
        """A frame of no rows with these columns."""
        return pl.DataFrame(schema=self.polars())


def _checked_name(name: str) -> str:
    if not name:
        raise SchemaError("a column needs a name, got an empty one")
    if name in INTERNAL_COLUMNS:
        raise SchemaError(
            f"column {name!r}: names that begin with two underscores like this one are taken; choose another"
        )
    return name


def _data_type(name: str, kind: ColumnType) -> pl.DataType:
    if isinstance(kind, pl.DataType):
        return kind
    if isinstance(kind, str):
        known = TYPES.get(kind.removesuffix("?"))
        if known is not None:
            return known
        close = difflib.get_close_matches(kind, TYPES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise SchemaError(f"column {name!r}: no type {kind!r}{hint} Types: {', '.join(TYPES)}")
    if kind in _PYTHON:
        return _PYTHON[kind]
    if issubclass(kind, pl.DataType):
        return kind()
    raise SchemaError(f"column {name!r}: expected a type name, got {kind!r}. Types: {', '.join(TYPES)}")
