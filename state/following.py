"""Rows of one stream that wait for the next row of another: both are held until the watermark says what the next one is.

    firsts    held while  W <= t + within + grace       a sorted buffer, as of an interval join (`buffers.py`)
    seconds   held while  W <= t + grace                then nothing before them can come any more (`waiting_rows.py`)

Decided rows of the second stream look, in the order of their times, for the rows of their key that wait at

    max(t - within, time of the second row before it) <= t of the first < t

so a first row is found once, by its next second row, and looking costs what is found, however many rows wait. What survives
a crash are rows and the marks of those found (`join_blocks.py`); the time of a key's latest second row does not: it only
spares looking at rows that are marked already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .buffers import NEVER, Expired, Found, JoinBuffer, Kept, key_hashes, sort_order
from .join_blocks import JoinState
from .key_codes import KeyCodes
from .slots import grown
from .waiting_rows import WaitingRows

Ints = NDArray[np.int64]

FOUND_MAX: Final = 100_000
"""Rows that are found at once."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Columns of one length: rows, and the times of the second ones."""

    first: pl.DataFrame
    second: pl.DataFrame
    times: Ints


class FollowingState:
    """Of one task. `by`: the key columns, of the same types in both streams; rows have no null in them.

    `key_texts`: the keys of rows as one column of texts, equal for equal keys.
    """

    def __init__(
        self,
        by: Sequence[str],
        first: dict[str, pl.DataType],
        second: dict[str, pl.DataType],
        *,
        within_ms: int,
        grace_ms: int,
        key_texts: Callable[[pl.DataFrame], pl.Series],
    ) -> None:
        span = within_ms + grace_ms
        buffer = JoinBuffer(span, span, outer=True)
        self.firsts = JoinState("first", by, (first, buffer), ({}, JoinBuffer(0, 0, outer=False)))
        self.seconds = WaitingRows("second", second, grace_ms)
        self._by, self._key_texts = list(by), key_texts
        self._within_ms, self._reach_ms = within_ms, span
        self._codes = KeyCodes()
        self._latest = np.full(0, NEVER, np.int64)
        """By key code, the time of the latest decided row of the second stream."""

    def open(self, watermark: int) -> int:
        """After restore; gives the watermark that counts."""
        return self.firsts.open(self.seconds.open(watermark))

    def keep(self, side: int, frame: pl.DataFrame, times: Ints) -> None:
        """Rows on time. `side`: 0 first, 1 second."""
        if side == 1:
            self.seconds.keep(frame, times)
            return
        unmatched, numbers = np.zeros(len(times), np.bool_), np.empty(0, np.int64)
        self.firsts.keep(0, Kept(frame, key_hashes(frame, self._by), times, unmatched, numbers))

    def advance(self, watermark: int) -> tuple[list[Pairs], list[Expired]]:
        """What is certain now: pairs, and the first rows that nothing followed."""
        decided = self.seconds.advance(watermark)
        pairs = [] if decided is None else self._pairs(*decided)
        alone = list(self.firsts.advance(watermark)[0])
        if self._codes.should_renew:
            self._renew(watermark - self._reach_ms)
        return pairs, alone

    # -- inside

    def _pairs(self, frame: pl.DataFrame, times: Ints) -> list[Pairs]:
        """`times` rise."""
        lower, upper = np.maximum(times - self._within_ms, self._before(frame, times)), times - 1
        if not (lower <= upper).any():
            return []
        high = key_hashes(frame, self._by)
        found = self.firsts.buffers[0].probe(high, lower, upper, sort_order(high, times), FOUND_MAX)
        return [pairs for some in found if (pairs := self._taken(frame, times, some)) is not None]

    def _before(self, frame: pl.DataFrame, times: Ints) -> Ints:
        """Of each row, in the order of times, the time of the row of its key before it."""
        codes = self._codes.codes(self._key_texts(frame)).astype(np.int64)
        self._latest = grown(self._latest, self._codes.size, NEVER)
        order = np.argsort(codes, kind="stable")
        sorted_codes, sorted_times = codes[order], times[order]
        begins = np.ones(len(order), np.bool_)
        begins[1:] = sorted_codes[1:] != sorted_codes[:-1]
        before = np.empty(len(order), np.int64)
        before[1:] = sorted_times[:-1]
        before[begins] = self._latest[sorted_codes[begins]]
        ends = np.append(begins[1:], True)
        self._latest[sorted_codes[ends]] = sorted_times[ends]
        result = np.empty(len(order), np.int64)
        result[order] = before
        return result

    def _taken(self, seconds: pl.DataFrame, times: Ints, some: Found) -> Pairs | None:
        """Without those that only share a hash, and those that were taken before a restart."""
        free = ~some.run.matched[some.rows]
        mine, theirs = seconds[some.needles], some.run.frame[some.rows]
        for name in self._by:
            free &= (mine[name] == theirs[name]).to_numpy()
        if not free.all():
            some = Found(some.needles[free], some.run, some.rows[free])
            mine, theirs = mine.filter(pl.Series(free)), theirs.filter(pl.Series(free))
        if not len(some.needles):
            return None
        self.firsts.mark(0, some)
        return Pairs(theirs, mine, times[some.needles])

    def _renew(self, horizon: int) -> None:
        """Forgets keys whose latest second row no first row that still waits can be before."""
        new_of = self._codes.renew(self._latest[: self._codes.size] >= horizon)
        if new_of is not None:
            kept = np.flatnonzero(new_of >= 0)
            latest = grown(np.full(0, NEVER, np.int64), self._codes.size, NEVER)
            latest[new_of[kept]] = self._latest[kept]
            self._latest = latest
