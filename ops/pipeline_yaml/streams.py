"""The `streams` of a pipeline file. Each entry is read in the order of SQL, whatever the order of its keys:

    from -> interval_join -> where -> with -> select -> key_by -> window or group_by, aggregate -> having -> as, to

Another order is written as two entries, the first of which names its result by `as`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from ...topics.topic import Topic, topic
from ...workers import windows
from ...workers.app import App
from ...workers.reducer import Reducer, columns_read, parse_reducer
from ...workers.stream import Stream
from ...workers.window import Window
from ..setting import did_you_mean
from .readers import duration, flag, mapping, names, one_of, placed, read_entries, text, whole
from .sql import sql_expression
from .tree import Entry, Items, Leaf, Mapping, Place, Reader, kind_of

KEYS: Final = (
    *("from", "interval_join", "where", "with", "select", "key_by"),
    *("window", "group_by", "aggregate", "having", "as", "to"),
)


@dataclass(slots=True)
class Streams:
    """What is known while the entries are read one after another."""

    app: App
    topics: dict[str, Topic]
    named: dict[str, Stream] = field(default_factory=dict)
    """Streams by their `as`."""

    def add_all(self, entry: Entry) -> None:
        """Raises PipelineFileError."""
        if not isinstance(entry.value, Items):
            entry.value.place.fail(f"'streams': expected a list of streams ('- from: ...'), got {kind_of(entry.value)}")
        for one in entry.value.items:
            if not isinstance(one, Mapping):
                one.place.fail(f"expected a stream such as 'from: clicks', got {kind_of(one)}")
            self.add(one)

    def add(self, given: Mapping) -> None:
        given.check_keys(KEYS, "a stream")
        stream = self._source(given.need("from", "a stream"))
        if given.get("to") is None and given.get("as") is None:
            given.place.fail("a stream needs 'to' (a topic) or 'as' (a name for other streams), else nobody sees it")
        _check_aggregation(given)
        for key, step in _STEPS:
            entry = given.get(key)
            if entry is not None:
                stream = step(self, stream, entry, given)

    def _source(self, entry: Entry) -> Stream:
        found = [self.stream(name, entry.value.place) for name in names(entry)]
        with placed(entry.value.place):
            return found[0].merge(*found[1:]) if len(found) > 1 else found[0]

    def stream(self, name: str, place: Place) -> Stream:
        """A topic declared above, or an earlier stream's `as`."""
        if name in self.named:
            return self.named[name]
        if name not in self.topics:
            known = [*self.topics, *self.named]
            hint = did_you_mean(name, known, otherwise=f"; declared are {', '.join(known) or 'none'}")
            place.fail(f"no topic and no stream {name!r}{hint}")
        with placed(place):
            return self.app.stream(self.topics[name])

    def topic_or_name(self, name: str) -> Topic | str:
        return self.topics.get(name, name)


def _check_aggregation(given: Mapping) -> None:
    """`aggregate` and one of `window` and `group_by`, or none of them."""
    window, group_by, aggregate = (given.get(key) for key in ("window", "group_by", "aggregate"))
    if window is not None and group_by is not None:
        group_by.place.fail("'window' and 'group_by' exclude each other: the key of windows is their 'by'")
    grouped = window or group_by
    if (grouped is None) != (aggregate is None):
        here = grouped or aggregate
        assert here is not None, "one of them is there"
        here.place.fail("'aggregate' goes together with 'window' or with 'group_by'")


def _interval_join(streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    given = mapping(entry, "a mapping such as {with: clicks, on: user, lower: 0s, upper: 5m}")
    options = read_entries(given, _JOIN, "an interval_join")
    for key in ("with", "on", "lower", "upper"):
        given.need(key, "an interval_join")
    right = streams.stream(options.pop("with"), given.need("with", "an interval_join").value.place)
    if "late_to" in options:
        options["late_to"] = streams.topic_or_name(options["late_to"])
    with placed(entry.place):
        return stream.interval_join(right, **options)


def _where(_streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    predicate = sql_expression(text(entry), stream.schema, entry.value.place, entry.key)
    with placed(entry.value.place):
        return stream.filter(predicate)


def _with(_streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    columns: dict[str, Any] = _expressions(entry, stream)
    if "name" in columns:  # the keyword of the fluent face for the step's own name
        entry.place.fail("'with' cannot make a column called 'name'; 'select' can")
    with placed(entry.place):
        return stream.with_columns(**columns)


def _select(_streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    if isinstance(entry.value, Mapping):
        computed = [expression.alias(name) for name, expression in _expressions(entry, stream).items()]
        with placed(entry.place):
            return stream.select(*computed)
    columns = [sql_expression(one, stream.schema, entry.value.place, entry.key) for one in names(entry)]
    with placed(entry.value.place):
        return stream.select(*columns)


def _expressions(entry: Entry, stream: Stream) -> dict[str, pl.Expr]:
    given = mapping(entry, "a mapping of names to expressions, as in {total: price * qty}")
    if not given.entries:
        entry.place.fail(f"{entry.key!r}: expected at least one column")
    return {one.key: sql_expression(text(one), stream.schema, one.value.place, one.key) for one in given}


def _key_by(_streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    with placed(entry.value.place):
        return stream.key_by(*names(entry))


def _window(streams: Streams, stream: Stream, entry: Entry, given: Mapping) -> Stream:
    options = mapping(entry, "a mapping such as {tumbling: 10s, by: user}")
    kinds = window_names()
    options.check_keys((*kinds, *_WINDOW), "a window")
    chosen = [one for one in options if one.key in kinds]
    if len(chosen) != 1:
        entry.place.fail(
            f"a window needs one of {', '.join(kinds)}, as in {{tumbling: 10s, by: user}}; got {len(chosen)}"
        )
    window = _window_of(chosen[0])
    read = {one.key: _WINDOW[one.key](one) for one in options if one.key in _WINDOW}
    if "by" not in read:
        entry.place.fail("a window needs 'by', the columns of its key")
    if "late_to" in read:
        read["late_to"] = streams.topic_or_name(read["late_to"])
    with placed(entry.place):
        windowed = stream.window(window, **read)
    aggregate = given.get("aggregate")
    assert aggregate is not None, "checked before"
    reducers = _reducers(aggregate, stream)
    with placed(aggregate.place):
        return windowed.agg(**reducers)


def _group_by(_streams: Streams, stream: Stream, entry: Entry, given: Mapping) -> Stream:
    options: dict[str, Any] = {}
    if isinstance(entry.value, Mapping):
        options = read_entries(entry.value, {"by": names, "name": text}, "'group_by'")
        entry.value.need("by", "'group_by'")
    by = options.pop("by", None) or names(entry)
    with placed(entry.value.place):
        grouped = stream.group_by(*by, **options)
    aggregate = given.get("aggregate")
    assert aggregate is not None, "checked before"
    reducers = _reducers(aggregate, stream)
    with placed(aggregate.place):
        return grouped.agg(**reducers).changes()


def _reducers(entry: Entry, stream: Stream) -> dict[str, Reducer]:
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


def _as(streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    name = text(entry)
    if name in streams.named or name in streams.topics:
        entry.value.place.fail(f"{name!r} is taken by another {'stream' if name in streams.named else 'topic'}")
    streams.named[name] = stream
    return stream


def _to(streams: Streams, stream: Stream, entry: Entry, given: Mapping) -> Stream:
    if isinstance(entry.value, Leaf):
        options: dict[str, Any] = {"topic": text(entry)}
    else:
        said = mapping(entry, "a topic's name, or {topic: totals, key: user}")
        options = read_entries(said, {"topic": text, "key": names}, "'to'")
        said.need("topic", "'to'")
    with placed(entry.value.place):
        target = streams.topic_or_name(options["topic"])
        if given.get("group_by") is not None and isinstance(target, str):
            target = topic(target, stream.schema, key=stream.key, cleanup="compact")
        stream.to(target, key=options.get("key"))
    return stream


def window_names() -> list[str]:
    """The kinds of windows: the files of workers/windows."""
    return sorted(module.name for module in pkgutil.iter_modules(windows.__path__) if not module.name.startswith("_"))


def _window_of(entry: Entry) -> Window:
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
_JOIN: Final[dict[str, Reader]] = {
    "with": text,
    "on": names,
    "lower": duration,
    "upper": duration,
    "how": one_of("inner", "left", "right", "outer"),
    "grace": duration,
    "suffix": text,
    "late_to": text,
    "name": text,
}

Step = Callable[[Streams, Stream, Entry, Mapping], Stream]

_STEPS: Final[tuple[tuple[str, Step], ...]] = (
    ("interval_join", _interval_join),
    ("where", _where),
    ("with", _with),
    ("select", _select),
    ("key_by", _key_by),
    ("window", _window),
    ("group_by", _group_by),
    ("having", _where),
    ("as", _as),
    ("to", _to),
)
