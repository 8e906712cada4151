"""A topic, declared once: its name, what is in it, and how time and keys are read from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .broker import CleanupPolicy, TopicSpec
from .duration import Duration, duration_ms
from .errors import ConfigurationError, SchemaError
from .schema import ColumnType, Schema

OnBadRecord = Literal["dead_letter", "skip", "fail"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class Topic:
    """What Millstream knows of a topic. Build it with `topic(...)`, which takes text and checks it.

    `key` and `event_time` name columns of the schema; without `event_time` the record timestamp is the event time.
    Times and lengths are milliseconds.
    """

    name: str
    schema: Schema | None
    key: tuple[str, ...] = ()
    event_time: str | None = None
    codec: str = "json"
    partitions: int | None = None
    replication: int | None = None
    cleanup: CleanupPolicy = "delete"
    retention_ms: int | None = None
    out_of_order_ms: int = 0
    idle_after_ms: int | None = 30_000
    future_max_ms: int = 86_400_000
    on_bad_record: OnBadRecord = "skip"
    dead_letters: str | None = None
    config: Mapping[str, str] = field(default_factory=dict)

    def spec(self) -> TopicSpec:
        """How the broker should have it."""
        config = dict(self.config)
        if self.retention_ms is not None:
            config["retention.ms"] = str(self.retention_ms)
        return TopicSpec(self.name, self.partitions, self.replication, self.cleanup, config)


def topic(
    name: str,
    schema: Mapping[str, ColumnType] | Schema | None = None,
    *,
    key: str | tuple[str, ...] | list[str] = (),
    event_time: str | None = None,
    codec: str = "json",
    partitions: int | None = None,
    replication: int | None = None,
    cleanup: CleanupPolicy = "delete",
    retention: Duration | None = None,
    out_of_order: Duration = "0s",
    idle_after: Duration | None = "30s",
    future_max: Duration = "1d",
    on_bad_record: OnBadRecord | None = None,
    dead_letters: str | None = None,
    config: Mapping[str, str] | None = None,
) -> Topic:
    """A checked `Topic`.

    `out_of_order`: how far event times may lag behind the largest seen in the partition (the watermark's lag).
    `idle_after`: a partition that is caught up for this long no longer holds event time back; None waits for ever.
    `future_max`: event times further ahead of the record's own timestamp are bad records.
    `on_bad_record`: "dead_letter" (the default where `dead_letters` names a topic), "skip" (counted), "fail".

    Raises ConfigurationError or SchemaError, naming the topic and the value.
    """
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise ConfigurationError(f"topic {name!r}: a name has 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-'")
    known = Schema.of(schema) if schema is not None else None
    columns = (key,) if isinstance(key, str) else tuple(key)
    _check_columns(name, known, columns, event_time)
    policy: OnBadRecord = on_bad_record or ("dead_letter" if dead_letters else "skip")
    if policy == "dead_letter" and not dead_letters:
        raise ConfigurationError(f"topic {name!r}: on_bad_record='dead_letter' needs dead_letters='<topic name>'")
    if partitions is not None and partitions < 1:
        raise ConfigurationError(f"topic {name!r}: partitions must be at least 1, got {partitions}")
    return Topic(
        name=name,
        schema=known,
        key=columns,
        event_time=event_time,
        codec=codec,
        partitions=partitions,
        replication=replication,
        cleanup=cleanup,
        retention_ms=None if retention is None else _positive_ms(name, "retention", retention),
        out_of_order_ms=_positive_ms(name, "out_of_order", out_of_order),
        idle_after_ms=None if idle_after is None else _positive_ms(name, "idle_after", idle_after),
        future_max_ms=_positive_ms(name, "future_max", future_max),
        on_bad_record=policy,
        dead_letters=dead_letters,
        config=dict(config or {}),
    )


def _positive_ms(topic_name: str, field_name: str, value: Duration) -> int:
    result = duration_ms(value, name=f"topic {topic_name!r}, {field_name}")
    if result < 0:
        raise ConfigurationError(f"topic {topic_name!r}: {field_name} must not be negative, got {value!r}")
    return result


def _check_columns(name: str, schema: Schema | None, key: tuple[str, ...], event_time: str | None) -> None:
    if schema is None:
        return
    for role, column in [*(("key", column) for column in key), ("event_time", event_time)]:
        if column is not None and column not in schema:
            raise SchemaError(
                f"topic {name!r}: {role} column {column!r} is not in the schema ({', '.join(schema.names)})"
            )
