"""The two buffers of an interval join, and what of them survives: blocks of rows, merged as they become many.

    key                       value
    b"L" | b"R" + number      Arrow stream of rows kept: the side's columns, `__time`, and for an outer side `__matched` as it
                              was when they were kept; the rows are numbered on from the block's number
    b"l" | b"r" + number      int64 (little endian) numbers of older rows of an outer side that found their first partner
    b"W"                      five int64 (order preserving): the watermark up to which rows have expired, then the next numbers
                              of rows and hits, left, then right; only where a side is an outer one

Numbers are 8 bytes, order preserving. A commit adds a block or a few a side; `state/block_log.py` merges them. A block dies when all
its rows are behind the horizon; then its key is deleted. Rows expired between two commits are never written. State after a
crash = the blocks, less what the watermark freed: the larger of the committed one and `W`, since offsets can be reset while
the changelog stays.

Row numbers are never given twice, so a hit never marks another row, even if a dead block comes back from an old checkpoint.

Larger than memory (`spill_to`): the two buffers together are held to a limit; what is beyond it lies in scratch files. A restore
holds to it too: values wait on disk, and are made into rows some at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from .buffers import NEVER, Expired, Found, Ints, JoinBuffer, Kept
from .join_sides import JoinSide
from .keys import int_key, key_int
from .restored import WATERMARK, Restored
from .row_blocks import BLOCK_BYTES_MAX
from .store import Changes, StoreWrite

_PREFIXES: Final = ((b"L", b"l"), (b"R", b"r"))
_PART_BYTES_MAX: Final = 1 << 30
"""Of rows that are restored at a time where nothing limits the memory: fewer parts, fewer merges."""
_RUNS_IN_LIMIT: Final = 8
"""A run in memory is at most this part of what memory may be used: the unit in which rows go to disk."""


class JoinState:
    """A `DurableState` that `Spills`. `left`, `right`: the columns of the sides; `on`: the key columns, of the same types in both."""

    def __init__(
        self,
        name: str,
        on: Sequence[str],
        left: tuple[Mapping[str, pl.DataType], JoinBuffer],
        right: tuple[Mapping[str, pl.DataType], JoinBuffer],
    ) -> None:
        self._name = name
        self._on = list(on)
        self._sides = tuple(
            JoinSide(name, prefixes, schema, buffer, BLOCK_BYTES_MAX)
            for prefixes, (schema, buffer) in zip(_PREFIXES, (left, right), strict=True)
        )
        self._unwritten: dict[bytes, bytes | None] = {}
        """What the database does not have yet; None: deleted."""
        self._watermark = NEVER
        self._watermark_logged = NEVER
        self._restored = Restored()
        self._folder: Path | None = None
        self._bytes_max = 0
        self._spilled_bytes = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def buffers(self) -> tuple[JoinBuffer, JoinBuffer]:
        left, right = self._sides
        return left.buffer, right.buffer

    @property
    def size_bytes(self) -> int:
        """Of memory: the buffers, which `spill_to` limits, and rows that are not in the changelog or may be merged there."""
        return sum(side.buffer.size_bytes + side.unlogged_bytes for side in self._sides)

    # What the operator does

    def open(self, watermark: int) -> int:
        """After `restore`: puts the rows back that the watermark has not freed. Gives the watermark that counts."""
        self._watermark = max(watermark, self._watermark_logged)
        part_bytes_max = self._bytes_max // _RUNS_IN_LIMIT if self._folder else _PART_BYTES_MAX
        for side, (rows, hits) in zip(self._sides, _PREFIXES, strict=True):
            side.buffer.advance(self._watermark)
            stored = self._restored.beginning_with(rows), self._restored.beginning_with(hits)
            for _ in side.rebuild(stored, self._on, self._watermark, part_bytes_max):
                self._spill()
        self._restored = Restored()
        return self._watermark

    def keep(self, side: int, kept: Kept, order: Ints | None = None) -> None:
        """Rows that may find partners later. `kept.numbers` is given here; `kept.matched` counts for an outer side only.

        Raises DiskError.
        """
        self._sides[side].keep(kept, order)
        self._spill()

    def mark(self, side: int, found: Found) -> None:
        """These rows of an outer side have a partner now."""
        self._sides[side].mark(found)

    def advance(self, watermark: int) -> list[Iterable[Expired]]:
        """Lets go of what is behind the watermark; gives the unmatched rows of outer sides, left and right, to be taken to the end."""
        self._watermark = max(self._watermark, watermark)
        return [side.buffer.advance(watermark) for side in self._sides]

    # What the task does

    def spill_to(self, folder: Path, bytes_max: int) -> None:
        self._folder, self._bytes_max = folder, bytes_max
        for side in self._sides:
            side.buffer.run_bytes_max = bytes_max // _RUNS_IN_LIMIT

    def _spill(self) -> None:
        """From the larger of the two, until both together are within the limit."""
        folder = self._folder
        if folder is None:
            return
        while sum(buffer.size_bytes for buffer in self.buffers) > self._bytes_max:
            written = max(self.buffers, key=lambda buffer: buffer.loose_bytes).spill(folder)
            if not written:
                return
            self._spilled_bytes += written

    def take_spilled_bytes(self) -> int:
        """Written to disk since the last call."""
        written, self._spilled_bytes = self._spilled_bytes, 0
        return written

    def restore(self, stored: Iterable[Changes], tail: Iterable[Changes]) -> None:
        newer = {key: value for changes in tail for key, value in changes.pairs()}
        self._unwritten.update(newer)
        if self._folder is not None:
            self._restored.spill_to(self._folder, self._bytes_max // _RUNS_IN_LIMIT)
        for changes in stored:
            for key, value in changes.pairs():
                if value is not None and key not in newer:
                    self._restored.put(key, value)
        self._restored.memory |= {key: value for key, value in newer.items() if value is not None}
        if (logged := self._restored.memory.pop(WATERMARK, None)) is not None:
            self._watermark_logged, *numbers = (key_int(logged, at) for at in range(0, len(logged), 8))
            for side, (rows, hits) in zip(self._sides, (numbers[:2], numbers[2:]), strict=True):
                side.next_row, side.next_hits = rows, hits

    def take_changes(self) -> list[Changes]:
        made: dict[bytes, bytes | None] = {}
        for side in self._sides:
            made.update(side.changes(self._watermark))
        if self._watermark > self._watermark_logged and any(side.buffer.outer for side in self._sides):
            numbers = [number for side in self._sides for number in (side.next_row, side.next_hits)]
            made[WATERMARK] = b"".join(map(int_key, (self._watermark, *numbers)))
            self._watermark_logged = self._watermark
        self._unwritten |= made
        return [Changes.of(list(made), list(made.values()))] if made else []

    def take_checkpoint(self) -> StoreWrite:
        given, self._unwritten = self._unwritten, {}
        return StoreWrite([Changes.of(list(given), list(given.values()))] if given else ())
