"""A pipeline that is crashed: its app, its input, and what must be in its output topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from millstream.workers.app import App

Row = dict[str, Any]
NAME = "crash"
"""Of the app; topics that it makes begin with it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of an output, as a read_committed reader gets it."""

    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]

    @property
    def row(self) -> Row:
        return orjson.loads(self.value or b"null")


Outputs = Mapping[str, Sequence[Sequence[Record]]]
"""By topic, partition by partition."""

Input = Mapping[str, Sequence[Sequence[tuple[bytes | None, bytes | None]]]]
"""By topic, partition by partition, in their order: key, value."""


@dataclass(frozen=True)
class Case:
    """`judge` says what is wrong with the outputs of a finished run; nothing for exactly what was promised."""

    name: str
    build: Callable[[App], object]
    input: Input
    judge: Callable[[Outputs], list[str]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def app(self, **settings: Any) -> App:
        app = App(
            NAME,
            **{
                "commit_interval": "1ms",
                "poll_records_max": 5,
                "checkpoint_interval_ms": 30,
                "retry_backoff_ms": 5,
                **self.settings,
                **settings,
            },
        )
        self.build(app)
        return app


def keyed(rows: Sequence[Row], column: str) -> list[tuple[bytes, bytes]]:
    """Rows as JSON records."""
    return [(str(row[column]).encode(), orjson.dumps(row)) for row in rows]


def rows_of(outputs: Outputs, topic: str) -> list[Row]:
    """All rows of a topic, tombstones left out."""
    return [record.row for partition in outputs[topic] for record in partition if record.value is not None]


def differences(topic: str, expected: Sequence[Any], found: Sequence[Any]) -> list[str]:
    """Compared as multisets: what is lost, what is there too often, what should not be there."""
    should, there = (Counter(map(repr, values)) for values in (expected, found))
    said = []
    for value in sorted(should | there):
        if there[value] < should[value]:
            said.append(f"{topic}: lost {value}")
        elif there[value] > should[value]:
            said.append(f"{topic}: {'twice' if should[value] else 'wrong'} {value}")
    return said


def out_of_order(outputs: Outputs, topic: str, column: str) -> list[str]:
    """Where a key's rows are not in ascending order of the column."""
    said = []
    for partition in outputs[topic]:
        last: dict[bytes | None, Any] = {}
        for record in partition:
            if record.value is None:
                continue
            value = record.row[column]
            if record.key in last and value < last[record.key]:
                said.append(f"{topic}: order of {record.key!r}: {value} after {last[record.key]}")
            last[record.key] = value
    return said
