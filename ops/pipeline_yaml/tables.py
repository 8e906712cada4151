"""Tables in a pipeline file: a stream that looks into one, and entries that begin with `table` in the place of `from`.

table -> join -> where -> with -> select -> group_by, aggregate -> having -> materialized -> as, to
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ...workers.global_table import GlobalTable
from ...workers.stream import Stream
from ...workers.table import Table
from ..setting import did_you_mean
from . import rows, windows
from .readers import mapping, names, one_of, placed, read_entries, text
from .tree import Entry, Leaf, Mapping, Place, Reader

if TYPE_CHECKING:
    from .streams import Streams

KEYS: Final = (
    *("table", "join", "where", "with", "select"),
    *("group_by", "aggregate", "having", "materialized", "as", "to"),
)

_JOIN: Final[dict[str, Reader]] = {"on": names, "suffix": text, "name": text}


def join(streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    """`join: {table: users, on: user}` of a stream; `{global: countries}` for a global table."""
    given = mapping(entry, "a mapping such as {table: users, on: user}")
    options = read_entries(
        given, {"table": text, "global": text, "how": one_of("inner", "left"), **_JOIN}, "a join with a table"
    )
    with placed(entry.place):
        return stream.join(_looked_into(streams, given, options), **options)


def _looked_into(streams: Streams, given: Mapping, options: dict[str, Any]) -> Table | GlobalTable:
    named, everywhere = given.get("table"), given.get("global")
    if (named is None) == (everywhere is None):
        given.place.fail("a join with a table needs either 'table' or 'global', as in {table: users, on: user}")
    if named is not None:
        return table(streams, options.pop("table"), named.value.place)
    assert everywhere is not None, "one of them is there"
    name, place = options.pop("global"), everywhere.value.place
    if name not in streams.topics:
        place.fail(
            f"no topic {name!r}{did_you_mean(name, list(streams.topics))}; a global table is a topic declared above"
        )
    with placed(place):
        return streams.app.global_table(streams.topics[name])


def table(streams: Streams, name: str, place: Place) -> Table:
    """A topic declared above, or an earlier entry's `as` that is a table."""
    if name in streams.tables:
        return streams.tables[name]
    if name in streams.named:
        place.fail(
            f"{name!r} is a stream; tables are topics, entries that begin with 'table', and those with 'group_by'"
        )
    if name not in streams.topics:
        known = [*streams.topics, *streams.tables]
        place.fail(f"no topic and no table {name!r}{did_you_mean(name, known, otherwise=f'; there are {known}')}")
    with placed(place):
        return streams.app.table(streams.topics[name])


def add(streams: Streams, given: Mapping) -> None:
    """An entry that begins with `table`."""
    given.check_keys(KEYS, "a table")
    begin = given.need("table", "a table")
    current = table(streams, text(begin), begin.value.place)
    kept = (given.get("to"), given.get("as"), given.get("materialized"))
    if kept == (None, None, None):
        given.place.fail(
            "a table needs 'to' (a topic), 'as' (a name for other entries) or 'materialized', else nobody sees it"
        )
    if (given.get("group_by") is None) != (given.get("aggregate") is None):
        given.place.fail("'aggregate' goes together with 'group_by'")
    if (entry := given.get("join")) is not None:
        current = _table_join(streams, current, entry)
    for key, step in (("where", rows.where), ("with", rows.with_columns), ("select", rows.select)):
        if (entry := given.get(key)) is not None:
            current = step(streams, current, entry, given)
    if (entry := given.get("group_by")) is not None:
        current = _grouped(current, entry, given)
    if (entry := given.get("having")) is not None:
        current = rows.where(streams, current, entry, given)
    _finish(streams, current, given)


def _table_join(streams: Streams, left: Table, entry: Entry) -> Table:
    given = mapping(entry, "a mapping such as {table: users, how: left}")
    readers = {"table": text, "how": one_of("inner", "left", "outer"), **_JOIN}
    options = read_entries(given, readers, "a join of tables")
    right = table(streams, options.pop("table", ""), given.need("table", "a join of tables").value.place)
    with placed(entry.place):
        return left.join(right, **options)


def _grouped(current: Table, entry: Entry, given: Mapping) -> Table:
    by, options = windows.grouping(entry)
    with placed(entry.value.place):
        grouped = current.group_by(*by, **options)
    aggregate = given.get("aggregate")
    assert aggregate is not None, "checked before"
    reducers = windows.reducers(aggregate, current)
    with placed(aggregate.place):
        return grouped.agg(**reducers)


def _finish(streams: Streams, current: Table, given: Mapping) -> None:
    if (entry := given.get("materialized")) is not None:
        with placed(entry.value.place):
            current = current.materialized(text(entry))
    if (entry := given.get("as")) is not None:
        streams.tables[streams.free(entry)] = current
    if (entry := given.get("to")) is not None:
        if not isinstance(entry.value, Leaf):
            entry.value.place.fail("a table is written by its key: give the topic's name alone, as in 'to: totals'")
        with placed(entry.value.place):
            current.to(streams.topic_or_name(text(entry)))
