"""One partition's log: segments of columns, one a send, and markers that end transactions.

    offset   0 1 2 | 3 4 | 5 | 6 | 7 ...
             plain | txn | t | C | plain        C: the commit marker takes an offset and holds no record

The **high watermark** is the end; the **last stable offset** is where the first open transaction begins. A reader under
read_committed stops at the last stable offset and does not see the records of aborted transactions.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..batch import Fetch, Headers, Partition
from ..broker import Isolation

Outcome = Literal["open", "committed", "aborted"]


@dataclass(eq=False)
class Transaction:
    """What one transaction has touched, and how it ended."""

    transactional_id: str
    outcome: Outcome = "open"
    logs: list[PartitionLog] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Columns:
    """Records as they are kept."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps: NDArray[np.int64]
    headers: dict[int, Headers]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Segment:
    """Records with offsets in `[base, next)`; none for a marker."""

    base: int
    next: int
    offsets: NDArray[np.int64]
    columns: Columns
    transaction: Transaction | None = None

    def rows(self, start: int, stop: int) -> Segment:
        """These rows; the offsets reach to the next row, or to the end of the segment after the last."""
        if (start, stop) == (0, len(self.columns)):
            return self
        end = self.next if stop >= len(self.columns) else int(self.offsets[stop])
        kept = self.columns
        headers = {row - start: some for row, some in kept.headers.items() if start <= row < stop}
        columns = Columns(kept.keys[start:stop], kept.values[start:stop], kept.timestamps[start:stop], headers)
        return replace(self, next=end, offsets=self.offsets[start:stop], columns=columns)


class PartitionLog:
    """Records of one partition and what may be read of them."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.start = 0
        self.end = 0
        """The high watermark."""
        self._segments: list[Segment] = []
        self._bases: list[int] = []
        self._open: dict[Transaction, int] = {}

    def end_for(self, isolation: Isolation) -> int:
        """Up to where may be read: the last stable offset, or the high watermark."""
        return min(self._open.values(), default=self.end) if isolation == "read_committed" else self.end

    def append(self, columns: Columns, transaction: Transaction | None = None) -> int:
        """The offset after the last record."""
        base = self.end
        if transaction is not None and transaction not in self._open:
            self._open[transaction] = base
            transaction.logs.append(self)
        self._add(Segment(base, base + len(columns), _range(base, len(columns)), columns, transaction))
        return self.end

    def mark(self, transaction: Transaction) -> None:
        """The marker that ends a transaction here."""
        self._open.pop(transaction, None)
        self._add(Segment(self.end, self.end + 1, _range(0, 0), _NOTHING))

    def read(self, position: int, records_max: int, isolation: Isolation) -> Fetch:
        """Records from the position on, at most so many. The fetch is empty where only markers, gaps or nothing follow."""
        limit, after, left, found = self.end_for(isolation), position, records_max, []
        for segment in self._segments[self._index(position) :]:
            if segment.base >= limit:
                break
            if isolation == "read_committed" and segment.transaction and segment.transaction.outcome == "aborted":
                after = segment.next
                continue
            if len(segment.columns) and not left:
                break
            start = int(np.searchsorted(segment.offsets, position))
            part = segment.rows(start, min(len(segment.columns), start + left))
            after, left = part.next, left - len(part.columns)
            if len(part.columns):
                found.append(part)
            if part.next < segment.next:
                break
        return self._fetch(position, max(after, position), limit, found)

    def offset_at(self, timestamp_ms: int, isolation: Isolation) -> int:
        """The first offset whose timestamp is at or after the time, or the end."""
        end = self.end_for(isolation)
        for segment in self._segments:
            rows = np.flatnonzero(segment.columns.timestamps >= timestamp_ms)
            rows = rows[segment.offsets[rows] >= self.start]
            if len(rows):
                return min(int(segment.offsets[rows[0]]), end)
        return end

    def delete_before(self, offset: int) -> None:
        """Records below are gone; -1 means all there are."""
        self.start = max(self.start, self.end if offset < 0 else min(offset, self.end))
        gone = bisect.bisect_right([segment.next for segment in self._segments], self.start)
        self._segments, self._bases = self._segments[gone:], self._bases[gone:]

    def compact(self, *, keep_tombstones: bool) -> None:
        """Below the last stable offset keep the last record of each key, with its offset. Null keys stay."""
        stable = self.end_for("read_committed")
        last: dict[bytes, int] = {}
        whole = [segment for segment in self._segments if segment.next <= stable]
        for segment in whole:
            if _readable(segment):
                last.update(
                    (key, at)
                    for key, at in zip(segment.columns.keys, segment.offsets.tolist(), strict=True)
                    if key is not None
                )
        for number, segment in enumerate(whole):
            self._segments[number] = _compacted(segment, last, keep_tombstones)

    def _add(self, segment: Segment) -> None:
        self._segments.append(segment)
        self._bases.append(segment.base)
        self.end = segment.next

    def _index(self, position: int) -> int:
        """The first segment that reaches beyond the position."""
        return max(0, bisect.bisect_right(self._bases, position) - 1)

    def _fetch(self, first: int, after: int, limit: int, found: Sequence[Segment]) -> Fetch:
        columns = _joined([segment.columns for segment in found])
        offsets = [segment.offsets for segment in found]
        return Fetch(
            partition=self.partition,
            first_offset=first,
            next_offset=after,
            end_offset=limit,
            keys=columns.keys,
            values=columns.values,
            offsets=np.concatenate(offsets) if offsets else _range(0, 0),
            timestamps=columns.timestamps,
            headers=columns.headers,
        )


def _range(base: int, count: int) -> NDArray[np.int64]:
    return np.arange(base, base + count, dtype=np.int64)


_NOTHING = Columns((), (), _range(0, 0), {})


def _readable(segment: Segment) -> bool:
    return segment.transaction is None or segment.transaction.outcome == "committed"


def _joined(parts: Sequence[Columns]) -> Columns:
    if len(parts) == 1:
        return parts[0]
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    headers: dict[int, Headers] = {}
    for part in parts:
        headers.update({row + len(values): some for row, some in part.headers.items()})
        keys += part.keys
        values += part.values
    times = np.concatenate([part.timestamps for part in parts]) if parts else _range(0, 0)
    return Columns(keys, values, times, headers)


def _compacted(segment: Segment, last: dict[bytes, int], keep_tombstones: bool) -> Segment:
    columns, offsets = segment.columns, segment.offsets.tolist()
    rows = [
        row
        for row, (key, at) in enumerate(zip(columns.keys, offsets, strict=True))
        if _readable(segment)
        and (key is None or last[key] == at)
        and (keep_tombstones or columns.values[row] is not None)
    ]
    if len(rows) == len(columns):
        return segment
    number_of = {row: number for number, row in enumerate(rows)}
    kept = Columns(
        [columns.keys[row] for row in rows],
        [columns.values[row] for row in rows],
        columns.timestamps[rows],
        {number_of[row]: some for row, some in columns.headers.items() if row in number_of},
    )
    return replace(segment, offsets=segment.offsets[rows], columns=kept)
