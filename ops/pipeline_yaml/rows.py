"""What a stream in a pipeline file does to its rows and columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from ...workers.stream import Stream
from ...workers.table import Table
from .readers import mapping, names, placed, text
from .sql import sql_expression
from .tree import Entry, Mapping

if TYPE_CHECKING:
    from .streams import Streams

Rows = TypeVar("Rows", Stream, Table)


def where(_streams: Streams, stream: Rows, entry: Entry, _given: Mapping) -> Rows:
    predicate = sql_expression(text(entry), stream.schema, entry.value.place, entry.key)
    with placed(entry.value.place):
        return stream.filter(predicate)


def with_columns(_streams: Streams, stream: Rows, entry: Entry, _given: Mapping) -> Rows:
    columns: dict[str, Any] = _expressions(entry, stream)
    if "name" in columns:  # the keyword of the fluent face for the step's own name
        entry.place.fail("'with' cannot make a column called 'name'; 'select' can")
    with placed(entry.place):
        return stream.with_columns(**columns)


def select(_streams: Streams, stream: Rows, entry: Entry, _given: Mapping) -> Rows:
    if isinstance(entry.value, Mapping):
        computed = [expression.alias(name) for name, expression in _expressions(entry, stream).items()]
        with placed(entry.place):
            return stream.select(*computed)
    columns = [sql_expression(one, stream.schema, entry.value.place, entry.key) for one in names(entry)]
    with placed(entry.value.place):
        return stream.select(*columns)


def _expressions(entry: Entry, stream: Stream | Table) -> dict[str, pl.Expr]:
    given = mapping(entry, "a mapping of names to expressions, as in {total: price * qty}")
    if not given.entries:
        entry.place.fail(f"{entry.key!r}: expected at least one column")
    return {one.key: sql_expression(text(one), stream.schema, one.value.place, one.key) for one in given}


def key_by(_streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    with placed(entry.value.place):
        return stream.key_by(*names(entry))
