"""Rows of a join sorted by (hash of the key, time): one run, in memory or on disk, and how pairs are found in it.

    codes   sorted uint64: high half hash of the key | low half time in the run (since `base`)
    rows    where the row of each code stands in `frame`, which is in order of arrival

A run on disk (`state/spill.py`) has its frame in the order of the codes, so that rows of one key lie together and one page
brings many of them; it needs neither `rows` nor times. Which rows are `matched` is changed for as long as a run lives, so that
stays in memory (a byte a row, outer sides only): a write to a mapped page could find the disk full, which ends the process.

Hashes are of this process only: runs on disk are scratch, see `state/join_blocks.py` for what is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..native.hash_search import hash_starts
from .spill import OnDisk, write_columns

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Codes = NDArray[np.uint64]
Rows = NDArray[np.uint32]
Expired = tuple[pl.DataFrame, Ints]
"""Rows and their times."""

LOW: Final = np.uint64(0xFFFFFFFF)


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
        self.codes, self.base = codes, base
        self.rows: Rows | None = rows
        self.frame, self.matched, self.numbers = kept.frame, kept.matched, kept.numbers
        self.times: Ints | None = kept.times
        self.tmin, self.tmax = int(kept.times.min()), int(kept.times.max())
        self.order: Rows | None = None
        """By time; made when rows begin to expire one by one."""
        self.starts = hash_starts(codes)
        """Where the codes of a hash begin, in a large run."""
        self.expired = 0
        self.disk_bytes = 0
        columns = (codes, rows, kept.times, kept.matched, kept.numbers)
        self.size_bytes = (
            int(kept.frame.estimated_size()) + sum(column.nbytes for column in columns) + self._starts_bytes
        )
        """Of memory."""

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def _starts_bytes(self) -> int:
        return 0 if self.starts is None else self.starts.size_bytes

    def places(self, codes: Codes, *, right: bool = False) -> Ints:
        """Where these codes would stand, the first (or behind the last) of equals."""
        if self.starts is not None:
            return self.starts.places(self.codes, codes, right=right)
        return self.codes.searchsorted(codes, "right" if right else "left")

    def rows_at(self, at: Ints) -> Ints | Rows:
        """Rows of the frame, of codes."""
        return at if self.rows is None else self.rows[at]

    def times_at(self, rows: Ints | Rows) -> Ints:
        """Of rows of the frame."""
        if self.times is not None:
            return self.times[rows]
        return (self.codes[rows] & LOW).astype(np.int64) + self.base

    def take_expired(self, horizon: int) -> Ints | Rows:
        """Unmatched rows behind the horizon, each given once, by time."""
        times = self.times_at(np.arange(len(self))) if self.times is None else self.times
        if self.order is None:
            self.order = np.argsort(times, kind="stable").astype(np.uint32)
            self.size_bytes += self.order.nbytes
        stop = int(np.searchsorted(times, horizon, sorter=self.order))
        gone = self.order[self.expired : stop]
        self.expired = max(self.expired, stop)
        return gone[~self.matched[gone]]

    def move_to(self, folder: Path) -> None:
        """To disk. Raises DiskError, and is then as it was."""
        order = self.rows_at(np.arange(len(self)))
        outer = len(self.numbers) > 0
        arrays = [self.codes, self.numbers[order]] if outer else [self.codes]
        written = write_columns(folder, self.frame[order], arrays)
        self._is_at(written, self.matched[order] if outer else self.matched)

    def _is_at(self, written: OnDisk, matched: Flags) -> None:
        self.codes, self.frame, self.matched = written.arrays[0], written.frame, matched
        self.numbers = written.arrays[1] if len(written.arrays) > 1 else self.numbers
        self.rows = self.times = self.order = None  # what has expired is the same prefix by time, whatever the order
        self.disk_bytes, self.size_bytes = written.size_bytes, self.matched.nbytes + self._starts_bytes


def merged(runs: Sequence[Run]) -> Run:
    """Of runs in memory."""
    base = min(run.base for run in runs)
    codes = np.concatenate([run.codes + np.uint64(run.base - base) for run in runs])
    order = np.argsort(codes, kind="stable")
    starts = np.cumsum([0] + [len(run) for run in runs[:-1]])
    rows = np.concatenate(
        [run.rows + np.uint32(start) for run, start in zip(runs, starts, strict=True) if run.rows is not None]
    )
    kept = Kept(
        frame=pl.concat([run.frame for run in runs], rechunk=True),
        high=codes[:0],
        times=np.concatenate([run.times for run in runs if run.times is not None]),
        matched=np.concatenate([run.matched for run in runs]),
        numbers=np.concatenate([run.numbers for run in runs]),
    )
    return Run(codes[order], rows[order], kept, base)


@dataclass(frozen=True, slots=True)
class Found:
    """Candidate pairs: row `needles[i]` of the batch and row `rows[i]` of the run. Keys are still to be compared."""

    needles: Ints
    run: Run
    rows: Ints | Rows


@dataclass(frozen=True, slots=True)
class Needles:
    """Rows that look for partners, sorted by hash; `order`: where each stands in its batch."""

    high: Codes
    lower: Ints
    upper: Ints
    order: Ints

    def near(self, run: Run) -> Needles:
        """Those whose bounds touch the times of the run."""
        near = (self.lower <= run.tmax) & (self.upper >= run.tmin) & (self.lower <= self.upper)
        if near.all():
            return self
        return Needles(self.high[near], self.lower[near], self.upper[near], self.order[near])


def matches(run: Run, needles: Needles, pairs_max: int) -> Iterator[Found]:
    """Both bounds are within the run's times, or cut to them: they fit into the low half.

    Where the matches end is searched for those rows alone that have one: most find none in most runs, and a search in a large
    run is a dozen misses of the cache.
    """
    lower = np.maximum(needles.lower - run.base, 0).astype(np.uint64)
    upper = np.minimum(needles.upper - run.base, int(LOW)).astype(np.uint64)
    first, highest = run.places(needles.high | lower), needles.high | upper
    hit = np.flatnonzero((first < len(run)) & (run.codes.take(first, mode="clip") <= highest))
    first, order = first[hit], needles.order[hit]
    count = run.places(highest[hit], right=True) - first
    ends = np.cumsum(count)
    starts = ends - count
    total = int(ends[-1]) if len(ends) else 0
    for begin in range(0, total, pairs_max):
        stop = min(begin + pairs_max, total)
        some = slice(int(ends.searchsorted(begin, "right")), int(ends.searchsorted(stop, "left")) + 1)
        many = np.minimum(ends[some], stop) - np.maximum(starts[some], begin)
        at = np.repeat(first[some] - starts[some], many) + np.arange(begin, stop)
        yield Found(np.repeat(order[some], many), run, run.rows_at(at))
