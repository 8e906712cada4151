"""Versions of keys in time: which one held at a time, which one came next. Pure functions on sorted columns.

    key, time      -> one number that sorts by key, then time
    at or before   -> binary search from the right;   at or after -> from the left, then past tombstones

Of rows of one key and time the last by arrival is the version. Times are relative to the first; where keys and times do not fit
into 62 bits together, ranks of the times stand for them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

NONE: Final = -1
_FIT: Final = 1 << 62


class Versions:
    """`codes`, `times`, `deleted`: of rows in order of arrival; deleted rows are tombstones. `rows`: where each version stands."""

    def __init__(self, codes: Ints, times: Ints, deleted: Flags) -> None:
        self._base = int(times.min()) if len(times) else 0
        self._span = int(times.max()) - self._base if len(times) else 0
        self._ranks: Ints | None = None
        if len(times) and (int(codes.max()) + 2) * (self._span + 3) >= _FIT:
            self._ranks = np.unique(times)
            self._span = len(self._ranks)
        packed = self._packed(codes, times, "left")
        order = np.argsort(packed, kind="stable")
        packed = packed[order]
        last = np.append(packed[1:] != packed[:-1], True)[: len(packed)]
        self.rows = order[last]
        self._sorted = packed[last]
        self.codes, self.times, self.deleted = codes[self.rows], times[self.rows], deleted[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def at_or_before(self, codes: Ints, times: Ints) -> Ints:
        """Per query the number of the version, tombstones too; NONE where there is none."""
        return self._of(codes, self._sorted.searchsorted(self._packed(codes, times, "right"), "right") - 1)

    def at_or_after(self, codes: Ints, times: Ints) -> Ints:
        """Per query the number of the first version that is no tombstone; NONE where there is none."""
        if not len(self):
            return np.full(len(codes), NONE)
        numbers = np.where(self.deleted, len(self), np.arange(len(self)))
        living = np.append(np.minimum.accumulate(numbers[::-1])[::-1], len(self))
        return self._of(codes, living[self._sorted.searchsorted(self._packed(codes, times, "left"), "left")])

    def newest(self) -> Ints:
        """The number of each key's last version."""
        return np.flatnonzero(np.append(self.codes[1:] != self.codes[:-1], True)[: len(self)])

    def times_of(self, found: Ints, otherwise: int) -> Ints:
        """The times of versions found by a query."""
        return np.where(found >= 0, np.append(self.times, otherwise)[found], otherwise)

    def living(self, found: Ints) -> Flags:
        """Whether a version was found, and is no tombstone."""
        flags: Flags = (found >= 0) & ~np.append(self.deleted, True)[found]
        return flags

    def _of(self, codes: Ints, at: Ints) -> Ints:
        """Those of the same key."""
        there = (at >= 0) & (at < len(self))
        there[there] = self.codes[at[there]] == codes[there]
        return np.where(there, at, NONE)

    def _packed(self, codes: Ints, times: Ints, side: str) -> Ints:
        """`side` matters for times between the ranks: which of the two neighbours they stand for."""
        if self._ranks is None:
            near = np.clip(times, self._base - 1, self._base + self._span + 1) - self._base + 1
        elif side == "right":
            near = self._ranks.searchsorted(times, "right")
        else:
            near = self._ranks.searchsorted(times, "left") + 1
        packed: Ints = codes * (self._span + 3) + near
        return packed
