"""The two buffers of an interval join, and what of them survives: blocks of rows, one or a few a commit and side.

    key                       value
    b"L" | b"R" + number      Arrow stream of the rows kept since the last commit: the side's columns, `__time`, and for an
                              outer side `__matched`; the rows are numbered on from the block's number
    b"l" | b"r" + number      int64 (little endian) numbers of older rows of an outer side that found their first partner
    b"W"                      five int64 (order preserving): the watermark up to which rows have expired, then the next numbers
                              of rows and hits, left, then right; only where a side is an outer one

Numbers are 8 bytes, order preserving. A block dies when all its rows are behind the horizon; then its key is deleted.
Rows expired between two commits are never written. State after a crash = the blocks, less what the watermark freed: the larger
of the committed one and `W`, since offsets can be reset while the changelog stays.

Row numbers are never given twice, so a hit never marks another row, even if a dead block comes back from an old checkpoint.
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import polars as pl

from .buffers import NEVER, Expired, Flags, Found, Ints, JoinBuffer, Kept, key_hashes
from .errors import CorruptStoreError, StateError
from .keys import int_key, key_int
from .store import Changes, StoreWrite

BLOCK_BYTES_MAX: Final = 512 << 10
"""Of a block, before compression: a record must stay below what a broker takes (1 MiB by default)."""

TIME: Final = "__time"
MATCHED: Final = "__matched"
_SIDES: Final = (b"L", b"R")
_HITS: Final = (b"l", b"r")
_WATERMARK: Final = b"W"
_NO_FLAGS: Final = np.empty(0, np.bool_)
_NO_INTS: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class _Fresh:
    first: int
    """Number of the first row."""
    frame: pl.DataFrame
    tmax: int


@dataclass(slots=True)
class _Side:
    """One side: the buffer, and what was not yet given to the changelog."""

    schema: dict[str, pl.DataType]
    buffer: JoinBuffer
    next_row: int = 0
    next_hits: int = 0
    fresh: list[_Fresh] = field(default_factory=list)
    hits: list[tuple[Ints, int]] = field(default_factory=list)
    """Numbers, and the largest time of the rows they mean."""

    @property
    def block_schema(self) -> dict[str, pl.DataType]:
        outer = {MATCHED: pl.Boolean()} if self.buffer.outer else {}
        return {**self.schema, TIME: pl.Int64(), **outer}


class JoinState:
    """A `DurableState`. `left`, `right`: the columns of the sides; `on`: the key columns, of the same types in both."""

    def __init__(
        self,
        name: str,
        on: Sequence[str],
        left: tuple[Mapping[str, pl.DataType], JoinBuffer],
        right: tuple[Mapping[str, pl.DataType], JoinBuffer],
    ) -> None:
        self._name = name
        self._on = list(on)
        self._sides = tuple(_Side(dict(schema), buffer) for schema, buffer in (left, right))
        self._living: list[tuple[int, bytes]] = []
        """A heap of (largest time + reach, key): blocks in the changelog, the first to die on top."""
        self._unwritten: dict[bytes, bytes | None] = {}
        """What the database does not have yet; None: deleted."""
        self._watermark = NEVER
        self._watermark_logged = NEVER
        self._restored: dict[bytes, bytes] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def buffers(self) -> tuple[JoinBuffer, JoinBuffer]:
        left, right = self._sides
        return left.buffer, right.buffer

    # What the operator does

    def open(self, watermark: int) -> int:
        """After `restore`: puts the rows back that the watermark has not freed. Gives the watermark that counts."""
        self._watermark = max(watermark, self._watermark_logged)
        for side in range(2):
            self._sides[side].buffer.advance(self._watermark)
            self._rebuild(side)
        self._restored = {}
        return self._watermark

    def keep(self, side: int, kept: Kept, order: Ints | None = None) -> None:
        """Rows that may find partners later. `kept.numbers` is given here; `kept.matched` counts for an outer side only."""
        one = self._sides[side]
        numbers = np.arange(one.next_row, one.next_row + kept.frame.height)
        columns = [pl.Series(TIME, kept.times)]
        if one.buffer.outer:
            kept = replace(kept, numbers=numbers)
            columns.append(pl.Series(MATCHED, kept.matched))
        else:
            kept = replace(kept, numbers=_NO_INTS, matched=_NO_FLAGS)
        one.fresh.append(_Fresh(one.next_row, kept.frame.with_columns(columns), int(kept.times.max())))
        one.next_row += kept.frame.height
        one.buffer.insert(kept, order)

    def mark(self, side: int, found: Found) -> None:
        """These rows of an outer side have a partner now."""
        new = np.unique(found.rows[~found.run.matched[found.rows]])
        if len(new):
            found.run.matched[new] = True
            self._sides[side].hits.append((found.run.numbers[new], int(found.run.times[new].max())))

    def advance(self, watermark: int) -> list[list[Expired]]:
        """Lets go of what is behind the watermark; gives the unmatched rows of outer sides, left and right."""
        self._watermark = max(self._watermark, watermark)
        return [side.buffer.advance(watermark) for side in self._sides]

    # What the task does

    def restore(self, stored: Iterable[Changes], tail: Iterable[Changes]) -> None:
        for changes in stored:
            self._restored.update((key, value) for key, value in changes.pairs() if value is not None)
        for changes in tail:
            for key, value in changes.pairs():
                self._unwritten[key] = value
                if value is None:
                    self._restored.pop(key, None)
                else:
                    self._restored[key] = value
        if (logged := self._restored.pop(_WATERMARK, None)) is not None:
            self._watermark_logged, *numbers = (key_int(logged, at) for at in range(0, len(logged), 8))
            for side, (rows, hits) in zip(self._sides, (numbers[:2], numbers[2:]), strict=True):
                side.next_row, side.next_hits = rows, hits

    def take_changes(self) -> list[Changes]:
        made: dict[bytes, bytes | None] = {}
        for side in range(2):
            for key, value, dies_at in (*self._row_blocks(side), *self._hit_blocks(side)):
                made[key] = value
                heapq.heappush(self._living, (dies_at, key))
        while self._living and self._living[0][0] < self._watermark:
            made[heapq.heappop(self._living)[1]] = None
        if self._watermark > self._watermark_logged and any(side.buffer.outer for side in self._sides):
            made[_WATERMARK] = b"".join(map(int_key, (self._watermark, *self._next_numbers())))
            self._watermark_logged = self._watermark
        self._unwritten |= made
        return [Changes.of(list(made), list(made.values()))] if made else []

    def take_checkpoint(self) -> StoreWrite:
        given, self._unwritten = self._unwritten, {}
        return StoreWrite([Changes.of(list(given), list(given.values()))] if given else ())

    @property
    def size_bytes(self) -> int:
        """Of the rows kept, without the sorted columns (about 24 bytes a row) and the blocks not yet in the database."""
        return sum(side.buffer.size_bytes for side in self._sides)

    # Blocks

    def _next_numbers(self) -> list[int]:
        return [number for side in self._sides for number in (side.next_row, side.next_hits)]

    def _row_blocks(self, side: int) -> Iterator[tuple[bytes, bytes, int]]:
        """Key, block, and the watermark above which all of it is dead. What is dead already is left out."""
        one = self._sides[side]
        fresh = [rows for rows in one.fresh if rows.tmax >= one.buffer.horizon]
        one.fresh = []
        for rows in _joined(fresh):
            for first, frame in _cut(rows.first, rows.frame):
                dies_at = int(frame[TIME].to_numpy().max()) + one.buffer.reach_ms
                yield _SIDES[side] + int_key(first), _block(frame), dies_at

    def _hit_blocks(self, side: int) -> Iterator[tuple[bytes, bytes, int]]:
        one = self._sides[side]
        hits = [numbers for numbers, tmax in one.hits if tmax >= one.buffer.horizon]
        tmax = max((tmax for _, tmax in one.hits), default=NEVER)
        one.hits = []
        if not hits:
            return
        numbers = np.sort(np.concatenate(hits)).astype("<i8")
        for at in range(0, len(numbers), BLOCK_BYTES_MAX // 8):
            value = numbers[at : at + BLOCK_BYTES_MAX // 8].tobytes()
            yield _HITS[side] + int_key(one.next_hits), value, tmax + one.buffer.reach_ms
            one.next_hits += 1

    def _rebuild(self, side: int) -> None:
        one = self._sides[side]
        blocks = [(key_int(key, 1), value) for key, value in sorted(self._restored.items()) if key[:1] == _SIDES[side]]
        frames = [_rows(value, one.block_schema, f"{self._name}, row block {number}") for number, value in blocks]
        for (number, _), frame in zip(blocks, frames, strict=True):
            dies_at = int(frame[TIME].to_numpy().max()) + one.buffer.reach_ms
            heapq.heappush(self._living, (dies_at, _SIDES[side] + int_key(number)))
            one.next_row = max(one.next_row, number + frame.height)
        frame = pl.concat(frames, rechunk=True) if frames else pl.DataFrame(schema=one.block_schema)
        numbers = _concatenated(
            [np.arange(number, number + len(rows)) for (number, _), rows in zip(blocks, frames, strict=True)]
        )
        times = frame[TIME].to_numpy()
        matched = frame[MATCHED].to_numpy(writable=True) if one.buffer.outer else np.zeros(len(times), np.bool_)
        self._rebuild_hits(side, numbers, times, matched)
        living = np.flatnonzero(times >= one.buffer.horizon)
        if len(living):
            rows = frame.select(list(one.schema))
            kept = Kept(rows, key_hashes(rows, self._on), times, matched, numbers)
            empty = replace(kept, matched=_NO_FLAGS, numbers=_NO_INTS)
            one.buffer.insert((kept if one.buffer.outer else empty).take(living))

    def _rebuild_hits(self, side: int, numbers: Ints, times: Ints, matched: Flags) -> None:
        """Marks the rows that are there; rows that are gone leave nothing to mark, but their numbers stay taken."""
        one = self._sides[side]
        for key, value in sorted(self._restored.items()):
            if key[:1] != _HITS[side]:
                continue
            hits = np.frombuffer(value, "<i8")
            at = np.searchsorted(numbers, hits)
            there = at[(at < len(numbers)) & (numbers.take(at, mode="clip") == hits)] if len(numbers) else _NO_INTS
            matched[there] = True
            dies_at = int(times[there].max()) + one.buffer.reach_ms if len(there) else NEVER
            heapq.heappush(self._living, (dies_at, key))
            one.next_hits = max(one.next_hits, key_int(key, 1) + 1)
            one.next_row = max(one.next_row, int(hits.max()) + 1)


def _joined(fresh: Sequence[_Fresh]) -> Iterator[_Fresh]:
    """Neighbours whose numbers go on are one."""
    group: list[_Fresh] = []
    for rows in fresh:
        if group and group[-1].first + group[-1].frame.height != rows.first:
            yield _one(group)
            group = []
        group.append(rows)
    if group:
        yield _one(group)


def _one(group: Sequence[_Fresh]) -> _Fresh:
    frame = pl.concat([rows.frame for rows in group]) if len(group) > 1 else group[0].frame
    return _Fresh(group[0].first, frame, max(rows.tmax for rows in group))


def _cut(first: int, frame: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """Parts of bounded size, by halves: rows may be of very different sizes. One row alone is never cut."""
    if frame.height == 1 or frame.estimated_size() <= BLOCK_BYTES_MAX:
        yield first, frame
        return
    half = frame.height // 2
    yield from _cut(first, frame[:half])
    yield from _cut(first + half, frame[half:])


def _block(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_ipc_stream(out, compression="lz4")
    return out.getvalue()


def _rows(block: bytes, schema: dict[str, pl.DataType], where: str) -> pl.DataFrame:
    try:
        frame = pl.read_ipc_stream(io.BytesIO(block))
    except pl.exceptions.PolarsError as error:
        raise CorruptStoreError(f"join {where}: not a block of rows: {error}") from error
    if dict(frame.schema) != schema:
        differing = [
            f"{name} ({frame.schema.get(name, 'none')} in the state, {schema.get(name, 'none')} now)"
            for name in {**frame.schema, **schema}
            if frame.schema.get(name) != schema.get(name)
        ] or [f"their order ({', '.join(frame.columns)} in the state, {', '.join(schema)} now)"]
        raise StateError(
            f"join {where}: the columns have changed: {'; '.join(differing)}; reset the application's state, "
            "or give the step another name to begin with an empty one"
        )
    return frame


def _concatenated(parts: Sequence[Ints]) -> Ints:
    return np.concatenate(parts) if parts else _NO_INTS
