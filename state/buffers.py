"""Rows of one side of an interval join that may still find partners, so that finding them costs the same however many there are.

    JoinBuffer: time buckets (a quarter of the reach) -> a few sorted runs each (`state/join_runs.py`), the cold ones on disk

Insert: one argsort of the batch. Runs of one bucket are merged size-tiered, three of about one size at a time (a stable argsort
of concatenated sorted runs is a linear merge), and all of them once time has gone on to the next bucket. Probe: a binary search
a row and run, and one more where something is found, give the slice of rows with the same hash within the bounds; equal hashes
are not yet equal keys, so whoever probes compares the real keys. Rows behind the horizon go a run at a time. Nothing is per key
and nothing per row in Python. Related: the sort-merge stream joins of "Kang, Naughton, Viglas: Evaluating Window Joins over
Unbounded Streams" (ICDE 2003); the tiers are those of an LSM tree.

Larger than memory: `spill` writes the runs of the oldest bucket to disk, where they stay as they are until they expire. The
oldest, since nothing more is inserted there, so its runs are merged already and are written once, and since its files are the
first to go; how often a row is looked for does not depend on its age. No run in memory grows beyond what was said
(`run_bytes_max`), so that writing or merging one never takes much.

Times are int64 milliseconds within `TIME_LIMIT`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from .join_runs import LOW, Codes, Expired, Found, Ints, Kept, Needles, Run, matches, merged

__all__ = ["Expired", "Found", "Ints", "JoinBuffer", "Kept", "NEVER", "TIME_LIMIT", "key_hashes", "sort_order"]

TIME_LIMIT: Final = 1 << 61
"""Times and bounds are smaller than this, so that no sum of them leaves int64."""

NEVER: Final = -(1 << 62)
_FAN_IN: Final = 3
_BUCKETS_IN_REACH: Final = 4
_WORTH_A_FILE_PARTS: Final = 4
"""A bucket with less than this part of `run_bytes_max` in memory is not worth a file while another has more."""
_WIDTH_MAX_MS: Final = 1 << 31
"""A bucket's times fit into the low half of a code, with room to widen once."""
_EXPIRED_ROWS_MAX: Final = 100_000
"""Given at once."""
_BUCKETS_A_BATCH_MAX: Final = 8
_ROWS_A_BUCKET_MIN: Final = 256
"""A batch that falls into more buckets, with fewer rows each, widens them: sparse rows would else make a run each."""


def key_hashes(frame: pl.DataFrame, on: Sequence[str]) -> Codes:
    """Hashes of the key columns in the high half, the low half zero."""
    hashes = frame[on[0]].hash() if len(on) == 1 else frame.select(on).hash_rows()
    high: Codes = hashes.to_numpy() & ~LOW
    return high


def sort_order(high: Codes, times: Ints) -> Ints:
    """Sorts by (hash, time), whatever the span of the times."""
    first = int(times.min())
    if int(times.max()) - first <= int(LOW):
        return np.argsort(high | (times - first).astype(np.uint64))
    return np.lexsort((times, high))


class JoinBuffer:
    """A row stays while `t >= horizon`, the watermark less `reach_ms`: how long after it a partner may come.

    `span_ms`: how far apart in time partners can be, the measure for the buckets. `outer`: unmatched rows are given when
    they expire.
    """

    def __init__(self, reach_ms: int, span_ms: int, outer: bool) -> None:
        self.reach_ms = reach_ms
        self.outer = outer
        self.horizon = NEVER
        self.width = min(max(1, -(-span_ms // _BUCKETS_IN_REACH)), _WIDTH_MAX_MS)
        self.run_bytes_max: int | None = None
        """Of a run in memory that is made of others; None: no limit."""
        self._buckets: dict[int, list[Run]] = {}

    @property
    def rows(self) -> int:
        return sum(map(len, self._runs()))

    @property
    def runs(self) -> int:
        return sum(map(len, self._buckets.values()))

    @property
    def size_bytes(self) -> int:
        """Of memory: rows, codes, times and flags. What a string shares with the batch it came in counts as its own."""
        return sum(run.size_bytes for run in self._runs())

    @property
    def loose_bytes(self) -> int:
        """Of memory, what `spill` could write."""
        return sum(run.size_bytes for run in self._runs() if not run.disk_bytes)

    @property
    def disk_bytes(self) -> int:
        return sum(run.disk_bytes for run in self._runs())

    def _runs(self) -> Iterator[Run]:
        return (run for runs in self._buckets.values() for run in runs)

    def insert(self, kept: Kept, order: Ints | None = None) -> None:
        """`order`: `sort_order` of these rows, where it is known."""
        which = kept.times // self.width
        if which.min() == which.max():
            self._insert(int(which[0]), kept, sort_order(kept.high, kept.times) if order is None else order)
            return
        if self._widen(which):
            self.insert(kept, order)
            return
        by_bucket = np.argsort(which, kind="stable")
        for at in np.split(by_bucket, np.flatnonzero(np.diff(which[by_bucket])) + 1):
            part = kept.take(at)
            self._insert(int(which[at[0]]), part, sort_order(part.high, part.times))

    def _insert(self, bucket: int, kept: Kept, order: Ints) -> None:
        base = bucket * self.width
        codes = kept.high[order] | (kept.times[order] - base).astype(np.uint64)
        if bucket not in self._buckets:
            self._settle(bucket)
        runs = self._buckets.setdefault(bucket, [])
        runs.append(Run(codes, order.astype(np.uint32), kept, base))
        _tidy(runs, self.run_bytes_max)

    def _settle(self, newer: int) -> None:
        """Time has gone on to a newer bucket: little more comes into the one before, so its runs become one, which is looked
        through at once. Without that there are many for as long as rows are kept, however few are in the last one."""
        before = max(self._buckets, default=newer)
        free = [run for run in self._buckets.get(before, ()) if run.order is None and not run.disk_bytes]
        if before >= newer or len(free) < 2:
            return
        group = free if self.run_bytes_max is None else _cold(free, self.run_bytes_max)
        if len(group) > 1:
            others = [run for run in self._buckets[before] if run not in group]
            self._buckets[before] = [merged(group), *others]

    def _widen(self, which: Ints) -> bool:
        """Fewer, wider buckets where rows are sparse; each old one lies within a new one, its runs stay as they are."""
        count = len(np.unique(which))
        if count <= _BUCKETS_A_BATCH_MAX or len(which) >= count * _ROWS_A_BUCKET_MIN or 2 * self.width > _WIDTH_MAX_MS:
            return False
        factor = min(max(2, -(-count // _BUCKETS_A_BATCH_MAX)), _WIDTH_MAX_MS // self.width)
        self.width *= factor
        wider: dict[int, list[Run]] = {}
        for bucket, runs in self._buckets.items():
            wider.setdefault(bucket // factor, []).extend(runs)
        self._buckets = wider
        return True

    def probe(self, high: Codes, lower: Ints, upper: Ints, order: Ints, pairs_max: int) -> Iterator[Found]:
        """Rows kept here with `lower <= t <= upper` (and not behind the horizon) and the same hash, at most `pairs_max` at once.

        `order` sorts by hash: sorted needles are found faster. A row with `lower > upper` finds nothing.
        """
        needles = Needles(high[order], np.maximum(lower[order], self.horizon), upper[order], order)
        first, last = int(needles.lower.min()), int(needles.upper.max())
        for bucket, runs in self._buckets.items():
            if (bucket + 1) * self.width <= first or bucket * self.width > last:
                continue
            for run in runs:
                if run.tmax >= first and run.tmin <= last:
                    yield from matches(run, needles.near(run), pairs_max)

    def advance(self, watermark: int) -> Iterable[Expired]:
        """Lets go of rows behind the horizon; gives the unmatched ones of an outer side, with their times, some at a time.

        What is given must be taken to its end before anything else is done here.
        """
        horizon = watermark - self.reach_ms
        if horizon <= self.horizon:
            return ()
        self.horizon = horizon
        touched = sorted(bucket for bucket in self._buckets if bucket * self.width < horizon)
        if self.outer:
            return self._expire(touched)
        for bucket in touched:
            self._let_go(bucket)
        return ()

    def _expire(self, touched: Iterable[int]) -> Iterator[Expired]:
        for bucket in touched:
            yield from _expired(self._buckets[bucket], self.horizon)
            self._let_go(bucket)

    def _let_go(self, bucket: int) -> None:
        left = [run for run in self._buckets[bucket] if run.tmax >= self.horizon]
        if left:
            self._buckets[bucket] = left
        else:
            del self._buckets[bucket]

    def spill(self, folder: Path) -> int:
        """Writes cold rows to disk, of memory about `run_bytes_max`; how many bytes of a file, 0 where all rows are there.

        The oldest bucket is the coldest, but one with only few rows in memory (they came late) waits until there are more.
        Raises DiskError.
        """
        loose = {
            bucket: [run for run in self._buckets[bucket] if not run.disk_bytes] for bucket in sorted(self._buckets)
        }
        sizes = {bucket: sum(run.size_bytes for run in runs) for bucket, runs in loose.items() if runs}
        if not sizes:
            return 0
        enough = (self.run_bytes_max or 0) // _WORTH_A_FILE_PARTS
        chosen = next((bucket for bucket, size in sizes.items() if size >= enough), max(sizes, key=sizes.__getitem__))
        group = _cold(loose[chosen], self.run_bytes_max or 0)
        one = merged(group) if len(group) > 1 else group[0]
        one.move_to(folder)
        self._buckets[chosen] = [run for run in self._buckets[chosen] if run not in group] + [one]
        return one.disk_bytes


def _expired(runs: Iterable[Run], horizon: int) -> Iterator[Expired]:
    for run in runs:
        if run.tmin < horizon:
            gone = run.take_expired(horizon)
            for at in range(0, len(gone), _EXPIRED_ROWS_MAX):
                some = gone[at : at + _EXPIRED_ROWS_MAX]
                yield run.frame[some], run.times_at(some)


def _cold(loose: Sequence[Run], bytes_max: int) -> list[Run]:
    """Runs that become one on disk: the largest, with others that fit. Those whose rows have begun to expire go alone."""
    first, *others = sorted(loose, key=lambda run: -run.size_bytes)
    group, size = [first], first.size_bytes
    for run in others if first.order is None else ():
        if run.order is None and size + run.size_bytes <= bytes_max:
            group.append(run)
            size += run.size_bytes
    return group


def _tidy(runs: list[Run], bytes_max: int | None) -> None:
    """Size-tiered: runs of about one size become one. Those whose rows have begun to expire stay as they are."""
    while group := _group(runs, bytes_max):
        runs[:] = [run for run in runs if run not in group]
        runs.append(merged(group))


def _group(runs: list[Run], bytes_max: int | None) -> list[Run]:
    free = [run for run in runs if run.order is None and not run.disk_bytes]
    if bytes_max is not None:
        free = [run for run in free if _FAN_IN * run.size_bytes <= bytes_max]
    for at in range(len(free) - _FAN_IN + 1):
        if len(free[at]) < 4 * len(free[-1]):
            return free[at:]
    return []
