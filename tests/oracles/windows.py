"""Windows, sessions and reducers record at a time, word for word from the semantics page: slow and obvious.

Nothing here is taken from the engine. A row is (key, time, watermark of its own partition just before it, values).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Timed = Sequence[tuple[int, Any]]
"""(time, value) of the rows of one group, in order of arrival."""


def windows_of(time: int, size: int, hop: int, offset: int) -> list[int]:
    """Starts of all windows `start = offset + n * hop` with `start <= time < start + size`."""
    around = (time - offset) // hop
    reach = size // hop + 2
    starts = (offset + n * hop for n in range(around - reach, around + 2))
    return [start for start in starts if start <= time < start + size]


@dataclass
class WindowOracle:
    """Tumbling and hopping windows."""

    size: int
    hop: int
    offset: int
    grace: int
    watermark: int = -(1 << 62)
    rows: dict[tuple[Any, Any], list[tuple[int, Any]]] = field(default_factory=dict)
    """By (key, name of the window: its start): (time, values) in order of arrival."""
    late: list[Any] = field(default_factory=list)
    """Values of rows late for all their windows by the watermark of their own partition."""
    woke: list[Any] = field(default_factory=list)
    """The same, of rows late only by the watermark of the task."""
    late_pairs: int = 0
    in_no_window: int = 0

    def windows(self, time: int) -> dict[Any, int]:
        """The ends of the windows a time is in, by the windows' names."""
        return {start: start + self.size for start in windows_of(time, self.size, self.hop, self.offset)}

    def row(self, key: Any, time: int, before: int, values: Any) -> None:
        windows = self.windows(time)
        own = [name for name, end in windows.items() if before >= end + self.grace]
        gone = [name for name, end in windows.items() if self.watermark >= end + self.grace]
        missed = set(own) | set(gone)
        self.late_pairs += len(missed)
        self.in_no_window += not windows
        if windows and len(missed) == len(windows):
            (self.late if len(own) == len(windows) else self.woke).append(values)
        for name in windows:
            if name not in missed:
                self.rows.setdefault((key, name), []).append((time, values))

    def advance(self, watermark: int) -> None:
        self.watermark = max(self.watermark, watermark)


@dataclass
class CumulativeOracle(WindowOracle):
    """Windows of one start that grow: `hop` is the step, a window's name its (start, end)."""

    def windows(self, time: int) -> dict[Any, int]:
        (start,) = windows_of(time, self.size, self.size, self.offset)
        ends = (start + k * self.hop for k in range(1, self.size // self.hop + 1))
        return {(start, end): end for end in ends if end > time}


@dataclass
class SessionOracle:
    """Sessions of one input partition: `[first, last + gap)`, neighbours share one iff `later - earlier < gap`."""

    gap: int
    grace: int
    watermark: int = -(1 << 62)
    open: dict[Any, list[list[tuple[int, Any]]]] = field(default_factory=dict)
    """By key: sessions, each its rows in order of arrival."""
    closed: list[tuple[Any, int, int, list[tuple[int, Any]]]] = field(default_factory=list)
    """(key, start, end, rows)."""
    late: list[Any] = field(default_factory=list)
    arrivals: int = 0

    def row(self, key: Any, time: int, before: int, values: Any) -> None:
        """A row is late iff the session it would make, merged, has ended and its grace with it."""
        self.advance(before)
        mine = self.open.setdefault(key, [])
        touched = [s for s in mine if time - _last(s) < self.gap and _first(s) - time < self.gap]
        merged = [row for session in touched for row in session]
        self.arrivals += 1
        merged = sorted([*merged, (time, (self.arrivals, values))], key=lambda row: row[1][0])
        if before >= _last(merged) + self.gap + self.grace:
            self.late.append(values)
            return
        self.open[key] = [session for session in mine if session not in touched] + [merged]

    def advance(self, watermark: int) -> None:
        """Sessions close when the watermark has passed their end and grace."""
        for key, sessions in self.open.items():
            for session in [s for s in sessions if watermark >= _last(s) + self.gap + self.grace]:
                sessions.remove(session)
                rows = [(time, values) for time, (_, values) in session]
                self.closed.append((key, _first(session), _last(session) + self.gap, rows))


def _first(session: Timed) -> int:
    return min(time for time, _ in session)


def _last(session: Timed) -> int:
    return max(time for time, _ in session)


# Reducers: of (time, value) in order of arrival. Nulls are skipped, as in SQL.


def _present(rows: Timed) -> list[tuple[int, Any]]:
    return [(time, value) for time, value in rows if value is not None]


def _by_time(rows: Timed) -> list[Any]:
    return [value for _, value in sorted(_present(rows), key=lambda row: row[0])]  # stable: ties by arrival


def _numbers(rows: Timed) -> list[Any]:
    """Without NaN, unless there is nothing else."""
    values = [value for _, value in _present(rows)]
    return [value for value in values if value == value] or values


def _mean(rows: Timed) -> float | None:
    values = [value for _, value in _present(rows)]
    return sum(values) / len(values) if values else None


def _distinct(rows: Timed) -> int:
    values = [value for _, value in _present(rows)]
    nans = any(isinstance(value, float) and math.isnan(value) for value in values)
    return len({value for value in values if not (isinstance(value, float) and math.isnan(value))}) + nans


REDUCERS: Mapping[str, Callable[[Timed], Any]] = {
    "count": lambda rows: len(_present(rows)),
    "sum": lambda rows: sum(value for _, value in _present(rows)),
    "mean": _mean,
    "min": lambda rows: min(_numbers(rows), default=None),
    "max": lambda rows: max(_numbers(rows), default=None),
    "first": lambda rows: next(iter(_by_time(rows)), None),
    # Of several at the latest time the one that came last.
    "last": lambda rows: next(iter(_by_time(rows)[::-1]), None),
    "count_distinct": _distinct,
    "collect": _by_time,
}
