"""One side of an interval join: its rows, what of them the changelog is still to be told, and how they come back from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from .block_log import Block, BlockLog, Covered
from .buffers import JoinBuffer, key_hashes
from .join_runs import Flags, Found, Ints, Kept
from .keys import key_int
from .row_blocks import block_of, cut, rows_of

TIME: Final = "__time"
MATCHED: Final = "__matched"
MERGED_SPAN_MS_MIN: Final = 60_000
"""Blocks that die within this of each other are merged however short the reach is."""
_SPANS_IN_REACH: Final = 4
"""What is dead in a merged block is at most this part of what is alive, and a minute."""
_NO_FLAGS: Final = np.empty(0, np.bool_)
_NO_INTS: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class _Fresh:
    first: int
    """Number of the first row."""
    frame: pl.DataFrame
    tmax: int


class JoinSide:
    """`prefixes`: of the keys of row blocks and of hits."""

    def __init__(
        self,
        name: str,
        prefixes: tuple[bytes, bytes],
        schema: Mapping[str, pl.DataType],
        buffer: JoinBuffer,
        block_bytes_max: int,
    ) -> None:
        self.name, self.schema, self.buffer = name, dict(schema), buffer
        self.next_row = self.next_hits = 0
        self._block_bytes_max = block_bytes_max
        self._fresh: list[_Fresh] = []
        self._hits: list[tuple[Ints, int]] = []
        """Numbers, and the largest time of the rows they mean."""
        limits = {
            "bytes_max": block_bytes_max,
            "span_ms_max": max(buffer.reach_ms // _SPANS_IN_REACH, MERGED_SPAN_MS_MIN),
        }
        self.rows: BlockLog[pl.DataFrame] = BlockLog(prefixes[0], _joined, block_of, **limits)
        self.hits: BlockLog[Ints] = BlockLog(prefixes[1], _sorted_numbers, _numbers_bytes, **limits)

    @property
    def block_schema(self) -> dict[str, pl.DataType]:
        outer = {MATCHED: pl.Boolean()} if self.buffer.outer else {}
        return {**self.schema, TIME: pl.Int64(), **outer}

    @property
    def unlogged_bytes(self) -> int:
        """Of rows held beside the buffer: those kept since the last commit, and blocks that may still be merged."""
        return (
            self.rows.size_bytes + self.hits.size_bytes + sum(int(rows.frame.estimated_size()) for rows in self._fresh)
        )

    # What the operator does

    def keep(self, kept: Kept, order: Ints | None) -> None:
        columns = [pl.Series(TIME, kept.times)]
        if self.buffer.outer:
            kept = replace(kept, numbers=np.arange(self.next_row, self.next_row + kept.frame.height))
            columns.append(pl.Series(MATCHED, kept.matched))
        else:
            kept = replace(kept, numbers=_NO_INTS, matched=_NO_FLAGS)
        self._fresh.append(_Fresh(self.next_row, kept.frame.with_columns(columns), int(kept.times.max())))
        self.next_row += kept.frame.height
        self.buffer.insert(kept, order)

    def mark(self, found: Found) -> None:
        run = found.run
        new = np.unique(found.rows[~run.matched[found.rows]]).astype(np.int64)
        if len(new):
            run.matched[new] = True
            self._hits.append((run.numbers[new], int(run.times_at(new).max())))

    # Into the changelog

    def changes(self, watermark: int) -> Iterator[tuple[bytes, bytes | None]]:
        """Net changes since the last call. What is dead already is left out."""
        fresh, self._fresh = [rows for rows in self._fresh if rows.tmax >= self.buffer.horizon], []
        for rows in _neighbours(fresh):
            first = rows.first
            for frame in cut(rows.frame, self._block_bytes_max):
                self.rows.add(self._row_block(first, frame))
                first += frame.height
        yield from self.rows.take(watermark)
        self._add_hits()
        yield from self.hits.take(watermark)

    def _row_block(self, first: int, frame: pl.DataFrame) -> Block[pl.DataFrame]:
        dies_at = int(frame[TIME].to_numpy().max()) + self.buffer.reach_ms
        return Block(first, first + frame.height, frame, int(frame.estimated_size()), dies_at)

    def _add_hits(self) -> None:
        living, self._hits = [(hits, tmax) for hits, tmax in self._hits if tmax >= self.buffer.horizon], []
        if not living:
            return
        numbers = _sorted_numbers([hits for hits, _ in living])
        dies_at = max(tmax for _, tmax in living) + self.buffer.reach_ms
        step = self._block_bytes_max // 8
        for at in range(0, len(numbers), step):
            some = numbers[at : at + step]
            self.hits.add(Block(self.next_hits, self.next_hits + 1, some, some.nbytes, dies_at))
            self.next_hits += 1

    # Back from it

    def rebuild(
        self,
        stored: tuple[Mapping[bytes, bytes], Mapping[bytes, bytes]],
        on: Sequence[str],
        watermark: int,
        bytes_max: int,
    ) -> Iterator[int]:
        """`stored`: blocks of rows and of hits by key, read one by one. Yields after every part of about `bytes_max` that the
        buffer was given.

        Rows that are gone leave nothing to mark, but their numbers stay taken.
        """
        rows, hits = stored
        marks = {key_int(key, 1): np.frombuffer(value, "<i8").astype(np.int64) for key, value in sorted(hits.items())}
        marked = _sorted_numbers(list(marks.values())) if marks else _NO_INTS
        firsts: list[tuple[int, int]] = []
        parts: list[tuple[int, pl.DataFrame]] = []
        size = 0
        for block in self._blocks(rows, watermark):
            firsts.append((block.number, block.dies_at))
            parts.append((block.number, block.content))
            size += block.size_bytes
            if size >= bytes_max:
                yield self._insert(parts, marked, on)
                parts, size = [], 0
        if parts:
            yield self._insert(parts, marked, on)
        self._rebuild_hits(marks, firsts, watermark)

    def _blocks(self, rows: Mapping[bytes, bytes], watermark: int) -> Iterator[Block[pl.DataFrame]]:
        covered = Covered()
        for key in sorted(rows):
            number = key_int(key, 1)
            block = self._row_block(
                number, rows_of(rows[key], self.block_schema, f"join {self.name}, row block {number}")
            )
            block.logged = True
            self.next_row = max(self.next_row, block.end)
            if block.dies_at < watermark:
                self.rows.known(number, block.dies_at)
            elif covered.has(block.end, block.dies_at):
                self.rows.known(number, watermark - 1)
            else:
                self.rows.add(block)
                yield block

    def _insert(self, parts: Sequence[tuple[int, pl.DataFrame]], marked: Ints, on: Sequence[str]) -> int:
        """The rows that are alive; how many."""
        frame = _joined([rows for _, rows in parts])
        times = frame[TIME].to_numpy()
        living = np.flatnonzero(times >= self.buffer.horizon)
        if len(living) == 0:
            return 0
        rows = frame.select(list(self.schema))
        kept = Kept(rows, key_hashes(rows, on), times, _NO_FLAGS, _NO_INTS)
        if self.buffer.outer:
            numbers = np.concatenate([np.arange(first, first + rows.height) for first, rows in parts])
            kept = replace(kept, numbers=numbers, matched=frame[MATCHED].to_numpy() | _among(numbers, marked))
        self.buffer.insert(kept if len(living) == len(times) else kept.take(living))
        return len(living)

    def _rebuild_hits(self, marks: Mapping[int, Ints], blocks: Sequence[tuple[int, int]], watermark: int) -> None:
        """They die with the last of the row blocks that they may mean."""
        firsts = np.array([first for first, _ in blocks])
        dies_at = np.array([dies_at for _, dies_at in blocks])
        for number, hits in marks.items():
            begin, stop = firsts.searchsorted([hits.min(), hits.max()], "right") if len(blocks) else (0, 0)
            meant = dies_at[max(int(begin) - 1, 0) : int(stop)]
            last = int(meant.max()) if len(meant) else watermark - 1
            if last < watermark:
                self.hits.known(number, last)
            else:
                self.hits.add(Block(number, number + 1, hits, hits.nbytes, last, logged=True))
            self.next_hits = max(self.next_hits, number + 1)
            self.next_row = max(self.next_row, int(hits.max()) + 1)


def _neighbours(fresh: Sequence[_Fresh]) -> Iterator[_Fresh]:
    """Those whose numbers go on are one."""
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


def _joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames, rechunk=True) if len(frames) > 1 else frames[0]


def _sorted_numbers(parts: Sequence[Ints]) -> Ints:
    return np.sort(np.concatenate(parts))


def _numbers_bytes(numbers: Ints) -> bytes:
    return numbers.astype("<i8").tobytes()


def _among(numbers: Ints, marked: Ints) -> Flags:
    if len(marked) == 0:
        return np.zeros(len(numbers), np.bool_)
    found: Flags = marked.take(marked.searchsorted(numbers), mode="clip") == numbers
    return found
