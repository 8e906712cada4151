"""The joins of a stream in a pipeline file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...workers.stream import Stream
from .readers import duration, mapping, names, one_of, placed, read_entries, text
from .tree import Entry, Mapping, Reader

if TYPE_CHECKING:
    from .streams import Streams


def interval_join(streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    given = mapping(entry, "a mapping such as {with: clicks, on: user, lower: 0s, upper: 5m}")
    options = read_entries(given, _JOIN, "an interval_join")
    for key in ("with", "on", "lower", "upper"):
        given.need(key, "an interval_join")
    right = streams.stream(options.pop("with"), given.need("with", "an interval_join").value.place)
    if "late_to" in options:
        options["late_to"] = streams.topic_or_name(options["late_to"])
    with placed(entry.place):
        return stream.interval_join(right, **options)


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
