"""Windows and groups of a stream in a pipeline file, and what is gathered in them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ...workers import windows
from ...workers.reducer import Reducer, columns_read, parse_reducer
from ...workers.stream import Stream
from ...workers.table import Table
from ...workers.window import Window
from ..setting import did_you_mean
from .readers import duration, flag, mapping, names, one_of, placed, read_entries, text, whole
from .tree import Entry, Mapping, Reader

if TYPE_CHECKING:
    from .streams import Streams


def window(streams: Streams, stream: Stream, entry: Entry, given: Mapping) -> Stream:
    options = mapping(entry, "a mapping such as {tumbling: 10s, by: user}")
    kinds = window_names()
    options.check_keys((*kinds, *_WINDOW), "a window")
    chosen = [one for one in options if one.key in kinds]
    if len(chosen) != 1:
        entry.place.fail(
            f"a window needs one of {', '.join(kinds)}, as in {{tumbling: 10s, by: user}}; got {len(chosen)}"
        )
    window = window_of(chosen[0])
    read = {one.key: _WINDOW[one.key](one) for one in options if one.key in _WINDOW}
    if "by" not in read:
        entry.place.fail("a window needs 'by', the columns of its key")
    if "late_to" in read:
        read["late_to"] = streams.topic_or_name(read["late_to"])
    with placed(entry.place):
        windowed = stream.window(window, **read)
    aggregate = given.get("aggregate")
    assert aggregate is not None, "checked before"
    gathered = reducers(aggregate, stream)
    with placed(aggregate.place):
        return windowed.agg(**gathered)


def group_by(_streams: Streams, stream: Stream, entry: Entry, given: Mapping) -> Stream:
    by, options = grouping(entry)
    with placed(entry.value.place):
        grouped = stream.group_by(*by, **options)
    aggregate = given.get("aggregate")
    assert aggregate is not None, "checked before"
    gathered = reducers(aggregate, stream)
    with placed(aggregate.place):
        return grouped.agg(**gathered).changes()


def grouping(entry: Entry) -> tuple[tuple[str, ...], dict[str, Any]]:
    """`group_by: user`, or `{by: [user, page], name: step}`: the columns, and what else was said."""
    options: dict[str, Any] = {}
    if isinstance(entry.value, Mapping):
        options = read_entries(entry.value, {"by": names, "name": text}, "'group_by'")
        entry.value.need("by", "'group_by'")
    return options.pop("by", None) or names(entry), options


def reducers(entry: Entry, stream: Stream | Table) -> dict[str, Reducer]:
    """What `aggregate` says."""
    found = {}
    for one in mapping(entry, "a mapping such as {n: count(), total: sum(price)}"):
        with placed(one.value.place):
            reducer = parse_reducer(text(one))
        for column in columns_read(reducer):
            if column not in stream.schema:
                columns = stream.schema.names
                hint = did_you_mean(column, columns)
                one.value.place.fail(f"{one.key!r}: no column {column!r}{hint} Columns there are: {', '.join(columns)}")
        found[one.key] = reducer
    return found or entry.place.fail("'aggregate': expected at least one, as in {n: count()}")


def window_names() -> list[str]:
    """The kinds of windows: the files of workers/windows."""
    return sorted(module.name for module in pkgutil.iter_modules(windows.__path__) if not module.name.startswith("_"))


def window_of(entry: Entry) -> Window:
    """`tumbling: 10s`, or `hopping: {size: 1m, hop: 10s}`: the arguments of the function of that name, read by their types."""
    function: Callable[..., Window] = getattr(importlib.import_module(f"{windows.__name__}.{entry.key}"), entry.key)
    parameters = inspect.signature(function).parameters
    readers = {name: _READERS.get(parameter.annotation, duration) for name, parameter in parameters.items()}
    if isinstance(entry.value, Mapping):
        arguments = read_entries(entry.value, readers, f"a {entry.key} window")
    else:
        name, read = next(iter(readers.items()))
        arguments = {name: read(entry)}
    for name, parameter in parameters.items():
        if name not in arguments and parameter.default is parameter.empty:
            needed = [one for one, known in parameters.items() if known.default is known.empty]
            example = ", ".join(f"{one}: {'10s' if readers[one] is duration else 10}" for one in needed)
            entry.value.place.fail(f"a {entry.key} window needs {name!r}, as in {entry.key}: {{{example}}}")
    with placed(entry.value.place):
        return function(**arguments)


_READERS: Final[dict[str, Reader]] = {"int": whole, "bool": flag}
_WINDOW: Final[dict[str, Reader]] = {
    "by": names,
    "grace": duration,
    "emit": one_of("update", "final"),
    "every": duration,
    "late_to": text,
    "name": text,
}
