"""Rows of one side of an interval join that may still find partners, so that finding them costs the same however many there are.

    JoinBuffer: time buckets (a quarter of the reach) -> a few sorted runs each
    Run:        `codes`, sorted uint64: high half hash of the key | low half time in the run
                `rows`: where the row of each code stands in `frame`, which is in order of arrival

Insert: one argsort of the batch. Runs of one bucket are merged size-tiered, three of about one size at a time (a stable argsort
of concatenated sorted runs is a linear merge). Probe: two binary searches a row and run give the slice of rows with the
same hash within the bounds; equal hashes are not yet equal keys, so whoever probes compares the real keys. Rows behind
the horizon go a run at a time. Nothing is per key and nothing per row in Python. Related: the sort-merge stream joins of
"Kang, Naughton, Viglas: Evaluating Window Joins over Unbounded Streams" (ICDE 2003); the tiers are those of an LSM tree.

Times are int64 milliseconds within `TIME_LIMIT`. Hashes are of this process only: nothing of a run is ever stored, see
`state/join_blocks.py` for what is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Codes = NDArray[np.uint64]
Rows = NDArray[np.uint32]
Expired = tuple[pl.DataFrame, Ints]
"""Rows and their times."""

TIME_LIMIT: Final = 1 << 61
"""Times and bounds are smaller than this, so that no sum of them leaves int64."""

NEVER: Final = -(1 << 62)
_LOW: Final = np.uint64(0xFFFFFFFF)
_FAN_IN: Final = 3
_BUCKETS_IN_REACH: Final = 4
_WIDTH_MAX_MS: Final = 1 << 31
"""A bucket's times fit into the low half of a code, with room to widen once."""
_BUCKETS_A_BATCH_MAX: Final = 8
_ROWS_A_BUCKET_MIN: Final = 256
"""A batch that falls into more buckets, with fewer rows each, widens them: sparse rows would else make a run each."""


def key_hashes(frame: pl.DataFrame, on: Sequence[str]) -> Codes:
    """Hashes of the key columns in the high half, the low half zero."""
    hashes = frame[on[0]].hash() if len(on) == 1 else frame.select(on).hash_rows()
    high: Codes = hashes.to_numpy() & ~_LOW
    return high


def sort_order(high: Codes, times: Ints) -> Ints:
    """Sorts by (hash, time), whatever the span of the times."""
    first = int(times.min())
    if int(times.max()) - first <= int(_LOW):
        return np.argsort(high | (times - first).astype(np.uint64))
    return np.lexsort((times, high))


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows to be kept, in order of arrival: columns of one length. `matched`, `numbers`: empty for inner sides."""

    frame: pl.DataFrame
    high: Codes
    times: Ints
    matched: Flags
    numbers: Ints

    def take(self, at: Ints) -> Kept:
        outer = len(self.matched) > 0
        matched, numbers = (self.matched[at], self.numbers[at]) if outer else (self.matched, self.numbers)
        return Kept(self.frame[at], self.high[at], self.times[at], matched, numbers)


class Run:
    """Rows sorted by (hash, time). `matched` and `numbers` are kept for outer sides only."""

    def __init__(self, codes: Codes, rows: Rows, kept: Kept, base: int) -> None:
        self.codes, self.rows, self.base = codes, rows, base
        self.frame, self.times = kept.frame, kept.times
        self.matched, self.numbers = kept.matched, kept.numbers
        self.tmin, self.tmax = int(kept.times.min()), int(kept.times.max())
        self.order: Ints | None = None
        """By time; made when rows begin to expire one by one."""
        self.expired = 0

    def take_expired(self, horizon: int) -> Ints:
        """Unmatched rows behind the horizon, each given once, by time."""
        if self.order is None:
            self.order = np.argsort(self.times, kind="stable")
        stop = int(np.searchsorted(self.times, horizon, sorter=self.order))
        gone = self.order[self.expired : stop]
        self.expired = max(self.expired, stop)
        return gone[~self.matched[gone]]


@dataclass(frozen=True, slots=True)
class Found:
    """Candidate pairs: row `needles[i]` of the batch and row `rows[i]` of the run. Keys are still to be compared."""

    needles: Ints
    run: Run
    rows: Rows


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
        self._buckets: dict[int, list[Run]] = {}

    @property
    def rows(self) -> int:
        return sum(len(run.codes) for runs in self._buckets.values() for run in runs)

    @property
    def runs(self) -> int:
        return sum(map(len, self._buckets.values()))

    @property
    def size_bytes(self) -> int:
        return sum(int(run.frame.estimated_size()) for runs in self._buckets.values() for run in runs)

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
        runs = self._buckets.setdefault(bucket, [])
        runs.append(Run(codes, order.astype(np.uint32), kept, base))
        _tidy(runs)

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
        needles = _Needles(high[order], np.maximum(lower[order], self.horizon), upper[order], order)
        first, last = int(needles.lower.min()), int(needles.upper.max())
        for bucket, runs in self._buckets.items():
            if (bucket + 1) * self.width <= first or bucket * self.width > last:
                continue
            for run in runs:
                if run.tmax >= first and run.tmin <= last:
                    yield from _matches(run, needles.near(run), pairs_max)

    def advance(self, watermark: int) -> list[Expired]:
        """Lets go of rows behind the horizon; gives the unmatched ones of an outer side, with their times."""
        horizon = watermark - self.reach_ms
        if horizon <= self.horizon:
            return []
        self.horizon = horizon
        expired: list[Expired] = []
        for bucket in sorted(bucket for bucket in self._buckets if bucket * self.width < horizon):
            if self.outer:
                expired += _expired(self._buckets[bucket], horizon)
            left = [run for run in self._buckets[bucket] if run.tmax >= horizon]
            if left:
                self._buckets[bucket] = left
            else:
                del self._buckets[bucket]
        return expired


def _expired(runs: Iterable[Run], horizon: int) -> Iterator[Expired]:
    for run in runs:
        if run.tmin < horizon and len(gone := run.take_expired(horizon)):
            yield run.frame[gone], run.times[gone]


@dataclass(frozen=True, slots=True)
class _Needles:
    """Rows that look for partners, sorted by hash; `order`: where each stands in its batch."""

    high: Codes
    lower: Ints
    upper: Ints
    order: Ints

    def near(self, run: Run) -> _Needles:
        """Those whose bounds touch the times of the run."""
        near = (self.lower <= run.tmax) & (self.upper >= run.tmin) & (self.lower <= self.upper)
        if near.all():
            return self
        return _Needles(self.high[near], self.lower[near], self.upper[near], self.order[near])


def _matches(run: Run, needles: _Needles, pairs_max: int) -> Iterator[Found]:
    """Both bounds are within the run's times, or cut to them: they fit into the low half."""
    lower = np.maximum(needles.lower - run.base, 0).astype(np.uint64)
    upper = np.minimum(needles.upper - run.base, int(_LOW)).astype(np.uint64)
    first = run.codes.searchsorted(needles.high | lower)
    last = run.codes.searchsorted(needles.high | upper, "right")
    hit = np.flatnonzero(last > first)
    first, count, order = first[hit], (last - first)[hit], needles.order[hit]
    ends = np.cumsum(count)
    starts = ends - count
    total = int(ends[-1]) if len(ends) else 0
    for begin in range(0, total, pairs_max):
        stop = min(begin + pairs_max, total)
        some = slice(int(ends.searchsorted(begin, "right")), int(ends.searchsorted(stop, "left")) + 1)
        many = np.minimum(ends[some], stop) - np.maximum(starts[some], begin)
        at = np.repeat(first[some] - starts[some], many) + np.arange(begin, stop)
        yield Found(np.repeat(order[some], many), run, run.rows[at])


def _tidy(runs: list[Run]) -> None:
    """Size-tiered: runs of about one size become one. Those whose rows have begun to expire stay as they are."""
    while group := _group(runs):
        runs[:] = [run for run in runs if run not in group]
        runs.append(_merged(group))


def _group(runs: list[Run]) -> list[Run]:
    free = [run for run in runs if run.order is None]
    for at in range(len(free) - _FAN_IN + 1):
        if len(free[at].codes) < 4 * len(free[-1].codes):
            return free[at:]
    return []


def _merged(runs: list[Run]) -> Run:
    base = min(run.base for run in runs)
    codes = np.concatenate([run.codes + np.uint64(run.base - base) for run in runs])
    order = np.argsort(codes, kind="stable")
    starts = np.cumsum([0] + [len(run.codes) for run in runs[:-1]])
    rows = np.concatenate([run.rows + np.uint32(start) for run, start in zip(runs, starts, strict=True)])
    kept = Kept(
        frame=pl.concat([run.frame for run in runs], rechunk=True),
        high=codes[:0],
        times=np.concatenate([run.times for run in runs]),
        matched=np.concatenate([run.matched for run in runs]),
        numbers=np.concatenate([run.numbers for run in runs]),
    )
    return Run(codes[order], rows[order], kept, base)
