"""Patterns in time of a stream in a pipeline file: duplicates, what is followed by what, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ...workers.stream import Stream
from .readers import duration, mapping, names, one_of, placed, read_entries, text
from .tree import Entry, Mapping, Reader

if TYPE_CHECKING:
    from .streams import Streams


def deduplicate(streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    given = mapping(entry, "a mapping such as {by: id, within: 10m}")
    options = _options(streams, given, _DEDUPLICATE, "deduplicate", ("by", "within"))
    with placed(entry.place):
        return stream.deduplicate(**options)


def followed_by(streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    second, options = _second(streams, entry, "followed_by")
    with placed(entry.place):
        return stream.followed_by(second, **options)


def not_followed_by(streams: Streams, stream: Stream, entry: Entry, _given: Mapping) -> Stream:
    second, options = _second(streams, entry, "not_followed_by")
    with placed(entry.place):
        return stream.not_followed_by(second, **options)


def _second(streams: Streams, entry: Entry, what: str) -> tuple[Stream, dict[str, Any]]:
    given = mapping(entry, "a mapping such as {with: payments, by: order, within: 5m}")
    options = _options(streams, given, _FOLLOWED, what, ("with", "by", "within"))
    return streams.stream(options.pop("with"), given.need("with", what).value.place), options


def _options(
    streams: Streams, given: Mapping, readers: dict[str, Reader], what: str, needed: tuple[str, ...]
) -> dict[str, Any]:
    options = read_entries(given, readers, f"'{what}'")
    for key in needed:
        given.need(key, f"'{what}'")
    if "late_to" in options:
        options["late_to"] = streams.topic_or_name(options["late_to"])
    return options


_COMMON: Final[dict[str, Reader]] = {
    "by": names,
    "within": duration,
    "grace": duration,
    "late_to": text,
    "name": text,
}
_DEDUPLICATE: Final[dict[str, Reader]] = {**_COMMON, "keep": one_of("first", "earliest")}
_FOLLOWED: Final[dict[str, Reader]] = {**_COMMON, "with": text, "suffix": text}
