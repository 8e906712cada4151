"""The `topics` of a pipeline file. A topic's keys are the arguments of `millstream.topic`."""

from __future__ import annotations

from typing import Any, Final

from ...topics.codec_of import codec_names
from ...topics.schema import TYPES
from ...topics.topic import Topic, topic
from ..setting import did_you_mean
from .readers import duration, duration_or_none, mapping, names, one_of, placed, text, texts_by_name, whole
from .tree import Entry, Items, Leaf, Mapping, Reader


def topics_of(entry: Entry) -> dict[str, Topic]:
    """By name. Raises PipelineFileError."""
    declared = mapping(entry, "a mapping of topic names to what is in them")
    return {one.key: _topic(one) for one in declared}


def _topic(entry: Entry) -> Topic:
    if isinstance(entry.value, Leaf) and entry.value.null:
        given = Mapping(entry.place, ())
    else:
        given = mapping(entry, "a mapping such as {key: user, schema: {user: string}}")
    given.check_keys(list(READERS), "a topic")
    options = {one.key: READERS[one.key](one) for one in given}
    with placed(_place_of(entry, given, options)):
        return topic(entry.key, **options)


def _place_of(entry: Entry, given: Mapping, options: dict[str, Any]) -> Any:
    """The line of the key or event time that is not in the schema, else the topic's."""
    columns = options.get("schema", ())
    for role in ("key", "event_time"):
        wanted = options.get(role, ())
        used = (wanted,) if isinstance(wanted, str) else wanted
        one = given.get(role)
        if one is not None and columns and not set(used) <= set(columns):
            return one.value.place
    return entry.place


def _schema(entry: Entry) -> dict[str, str]:
    columns = mapping(entry, "a mapping of column names to types, as in {user: string, ts: timestamp_ms}")
    found = texts_by_name(entry)
    for one in columns:
        kind = found[one.key]
        if kind.removesuffix("?") not in TYPES:
            hint = did_you_mean(kind, TYPES)
            one.value.place.fail(f"column {one.key!r}: no type {kind!r}{hint} Types: {', '.join(TYPES)}")
    return found or entry.place.fail("'schema': expected at least one column, as in {user: string}")


def _codec(entry: Entry) -> str:
    known = codec_names()
    if text(entry) not in known:
        entry.value.place.fail(f"no codec {text(entry)!r}{did_you_mean(text(entry), known)} Codecs: {', '.join(known)}")
    return text(entry)


def _key(entry: Entry) -> tuple[str, ...]:
    return () if isinstance(entry.value, Items) and not entry.value.items else names(entry)


READERS: Final[dict[str, Reader]] = {
    "schema": _schema,
    "key": _key,
    "event_time": text,
    "codec": _codec,
    "partitions": whole,
    "replication": whole,
    "cleanup": one_of("delete", "compact"),
    "retention": duration,
    "out_of_order": duration,
    "idle_after": duration_or_none,
    "future_max": duration,
    "on_bad_record": one_of("dead_letter", "skip", "fail"),
    "dead_letters": text,
    "config": texts_by_name,
}
