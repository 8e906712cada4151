"""The joins of a stream in a pipeline file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ...workers.stream import Stream
from ...workers.window import Window
from .readers import duration, mapping, names, one_of, placed, read_entries, text
from .tree import Entry, Mapping, Reader
from .windows import window_names, window_of

if TYPE_CHECKING:
    from .streams import Streams


def interval_join(streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    given = mapping(entry, "a mapping such as {with: clicks, on: user, lower: 0s, upper: 5m}")
    right, options = _read(streams, given, _INTERVAL, "an interval_join", ("with", "on", "lower", "upper"))
    with placed(entry.place):
        return stream.interval_join(right, **options)


def asof_join(streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    given = mapping(entry, "a mapping such as {with: quotes, on: stock, tolerance: 1m}")
    right, options = _read(streams, given, _ASOF, "an asof_join", ("with", "on"))
    with placed(entry.place):
        return stream.asof_join(right, **options)


def window_join(streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    given = mapping(entry, "a mapping such as {with: clicks, window: {tumbling: 10s}, on: user}")
    right, options = _read(streams, given, _WINDOW, "a window_join", ("with", "window", "on"))
    with placed(entry.place):
        return stream.window_join(right, **options)


def _read(
    streams: Streams, given: Mapping, readers: dict[str, Reader], what: str, needed: tuple[str, ...]
) -> tuple[Stream, dict[str, Any]]:
    """The other stream, and what else was said."""
    options = read_entries(given, readers, what)
    for key in needed:
        given.need(key, what)
    right = streams.stream(options.pop("with"), given.need("with", what).value.place)
    if "late_to" in options:
        options["late_to"] = streams.topic_or_name(options["late_to"])
    return right, options


def _window(entry: Entry) -> Window:
    kinds = window_names()
    given = mapping(entry, "a window such as {tumbling: 10s}")
    given.check_keys(kinds, "a window")
    chosen = list(given)
    if len(chosen) != 1:
        entry.place.fail(f"a window is one of {', '.join(kinds)}, as in {{tumbling: 10s}}; got {len(chosen)}")
    return window_of(chosen[0])


_COMMON: Final[dict[str, Reader]] = {
    "with": text,
    "on": names,
    "grace": duration,
    "suffix": text,
    "late_to": text,
    "name": text,
}
_HOW: Final = one_of("inner", "left", "right", "outer")
_INTERVAL: Final[dict[str, Reader]] = {**_COMMON, "lower": duration, "upper": duration, "how": _HOW}
_ASOF: Final[dict[str, Reader]] = {
    **_COMMON,
    "direction": one_of("backward", "forward", "nearest"),
    "tolerance": duration,
    "how": one_of("left", "inner"),
    "ttl": duration,
}
_WINDOW: Final[dict[str, Reader]] = {**_COMMON, "window": _window, "how": _HOW}
