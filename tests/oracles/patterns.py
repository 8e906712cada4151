"""Deduplicate, followed by, not followed by: record at a time, straight from the words of their semantics. Slow and obvious.

Events come in the order the task is given them: a row of a stream with the watermark of its own partition before it, or the
task's new watermark. Values are different in every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    side: int
    """0 first stream, 1 second stream."""
    key: object
    time: int
    value: int
    before: int


@dataclass
class Given:
    """Values of rows (or of pairs of rows) that are given, of late ones, of duplicates; rejected ones are those with no key."""

    results: list[Any] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    duplicates: int = 0

    def sorted(self) -> Given:
        return Given(sorted(self.results, key=repr), sorted(self.late), self.duplicates)


def on_time_of(events: Sequence[Row | int], grace: int) -> tuple[list[Row], list[Row]]:
    """Rows on time, and late ones: behind the watermark of their partition or of the task, less the grace."""
    on_time: list[Row] = []
    late: list[Row] = []
    watermark = -(10**18)
    for event in events:
        if isinstance(event, int):
            watermark = max(watermark, event)
        elif event.time >= max(event.before, watermark) - grace:
            on_time.append(event)
        else:
            late.append(event)
    return on_time, late


def deduplicate(events: Sequence[Row | int], within: int, keep: str, grace: int) -> Given:
    rows, late = on_time_of([event for event in events if isinstance(event, int) or event.key is not None], grace)
    if keep == "earliest":
        rows = sorted(rows, key=lambda row: row.time)
    given = Given(late=[row.value for row in late])
    kept: list[Row] = []
    for row in rows:
        if any(other.key == row.key and abs(row.time - other.time) < within for other in kept):
            given.duplicates += 1
        else:
            kept.append(row)
            given.results.append(row.value)
    return given


def followed_by(events: Sequence[Row | int], within: int, grace: int) -> Given:
    rows, late = on_time_of(events, grace)
    given = Given(late=[row.value for row in late])
    for row in rows:
        if row.side == 0 and (after := followers(row, rows, within)):
            given.results.append((row.value, min(after, key=lambda other: other.time).value))
    return given


def not_followed_by(events: Sequence[Row | int], within: int, grace: int) -> Given:
    rows, late = on_time_of(events, grace)
    given = Given(late=[row.value for row in late])
    given.results += [row.value for row in rows if row.side == 0 and not followers(row, rows, within)]
    return given


def followers(row: Row, rows: Sequence[Row], within: int) -> list[Row]:
    """In their order of arrival."""
    return [
        other
        for other in rows
        if other.side == 1
        and other.key == row.key
        and row.key is not None
        and row.time < other.time <= row.time + within
    ]
