"""How many records a shard is given at a time: all that are there, unless they become too many rows for one transaction.

A batch is in one transaction with everything that comes of it, and a transaction has a time limit (`transaction.timeout.ms`). Where
records become very many rows (a key with many partners), all that were fetched would take longer, be aborted, be read again,
and so on for ever. How many that is, is not known before, but each batch tells: it stopped so many times to have its rows sent
(`pieces.py`). The next ones are then cut to what would have stopped `STOPS_MAX` times, and grow again twofold while they stop less.
A batch that failed half-way tells at least so much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..topics.batch import MAX_TIME, Fetch

STOPS_MAX: Final = 20
"""Two million rows given, in a few seconds: far from any time limit."""
_CUT_ROWS_MAX: Final = 50_000
"""What would be cut to more is not cut."""


@dataclass(slots=True)
class Portions:
    """Of one shard."""

    rows_max: int | None = None
    """None: as many as there are."""
    rows: int = 0
    stops: int = 0

    def take(self, fetches: Sequence[Fetch]) -> tuple[tuple[Fetch, ...], list[Fetch]]:
        """The next portion, the oldest records first, and what is left."""
        if self.rows_max is None or sum(map(len, fetches)) <= self.rows_max:
            self.rows = sum(map(len, fetches))
            return tuple(fetches), []
        left, given, self.rows = self.rows_max, [], 0
        rest: list[Fetch] = []
        for fetch in sorted(fetches, key=_first_time):
            taken, behind = _cut(fetch, left)
            given += taken
            rest += behind
            left -= sum(map(len, taken))
        self.rows = self.rows_max - left
        return tuple(given), rest

    def stopped(self) -> None:
        """In the middle of the portion."""
        self.stops += 1

    def ended(self) -> None:
        """It is worked off, or has failed."""
        if self.rows and self.stops > STOPS_MAX:
            self.rows_max = max(1, self.rows * STOPS_MAX // self.stops)
        elif self.rows and self.rows_max is not None:
            self.rows_max *= 2
            if self.rows_max > _CUT_ROWS_MAX:
                self.rows_max = None
        self.rows = self.stops = 0


def _cut(fetch: Fetch, rows: int) -> tuple[list[Fetch], list[Fetch]]:
    """At most so many rows of it, and the rest."""
    if rows == 0:
        return [], [fetch]
    if len(fetch) <= rows:
        return [fetch], []
    middle = int(fetch.offsets[rows])
    return [_part(fetch, slice(rows), fetch.first_offset, middle)], [
        _part(fetch, slice(rows, None), middle, fetch.next_offset)
    ]


def _part(fetch: Fetch, rows: slice, first: int, stop: int) -> Fetch:
    begin, end, _ = rows.indices(len(fetch))
    return replace(
        fetch,
        first_offset=first,
        next_offset=stop,
        keys=fetch.keys[rows],
        values=fetch.values[rows],
        offsets=fetch.offsets[rows],
        timestamps=fetch.timestamps[rows],
        headers={row - begin: told for row, told in fetch.headers.items() if begin <= row < end},
    )


def _first_time(fetch: Fetch) -> int:
    return int(fetch.timestamps[0]) if len(fetch) else MAX_TIME
