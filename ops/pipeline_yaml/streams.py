"""The `streams` of a pipeline file. Each entry is read in the order of SQL, whatever the order of its keys:

    from -> deduplicate -> interval_join -> asof_join -> window_join -> join -> followed_by -> not_followed_by
         -> where -> with -> select -> key_by -> window or group_by, aggregate -> having -> as, to

Another order is written as two entries, the first of which names its result by `as`. An entry that begins with `table` is a table: see
`tables.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ...topics.topic import Topic, topic
from ...workers.app import App
from ...workers.stream import Stream
from ...workers.table import Table
from ..setting import did_you_mean
from . import joins, patterns, rows, tables, windows
from .readers import mapping, names, placed, read_entries, text
from .tree import Entry, Items, Leaf, Mapping, Place, kind_of

KEYS: Final = (
    *("from", "deduplicate", "interval_join", "asof_join", "window_join", "join", "followed_by", "not_followed_by"),
    *("where", "with", "select", "key_by"),
    *("window", "group_by", "aggregate", "having", "as", "to"),
)


@dataclass(slots=True)
class Streams:
    """What is known while the entries are read one after another."""

    app: App
    topics: dict[str, Topic]
    named: dict[str, Stream] = field(default_factory=dict)
    """Streams by their `as`."""
    tables: dict[str, Table] = field(default_factory=dict)
    """Tables by their `as`."""

    def add_all(self, entry: Entry) -> None:
        """Raises PipelineFileError."""
        if not isinstance(entry.value, Items):
            entry.value.place.fail(f"'streams': expected a list of streams ('- from: ...'), got {kind_of(entry.value)}")
        for one in entry.value.items:
            if not isinstance(one, Mapping):
                one.place.fail(f"expected a stream such as 'from: clicks', got {kind_of(one)}")
            if one.get("table") is None:
                self.add(one)
            else:
                tables.add(self, one)

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

    def free(self, entry: Entry) -> str:
        """The name that an `as` gives."""
        name = text(entry)
        for what, taken in (("topic", self.topics), ("stream", self.named), ("table", self.tables)):
            if name in taken:
                entry.value.place.fail(f"{name!r} is taken by another {what}")
        return name

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


def _as(streams: Streams, stream: Stream, entry: Entry, given: Mapping) -> Stream:
    name = streams.free(entry)
    streams.named[name] = stream
    if given.get("group_by") is not None and given.get("having") is None:
        streams.tables[name] = Table(stream, stream.key)
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


Step = Callable[[Streams, Stream, Entry, Mapping], Stream]

_STEPS: Final[tuple[tuple[str, Step], ...]] = (
    ("deduplicate", patterns.deduplicate),
    ("interval_join", joins.interval_join),
    ("asof_join", joins.asof_join),
    ("window_join", joins.window_join),
    ("join", tables.join),
    ("followed_by", patterns.followed_by),
    ("not_followed_by", patterns.not_followed_by),
    ("where", rows.where),
    ("with", rows.with_columns),
    ("select", rows.select),
    ("key_by", rows.key_by),
    ("window", windows.window),
    ("group_by", windows.group_by),
    ("having", rows.where),
    ("as", _as),
    ("to", _to),
)
