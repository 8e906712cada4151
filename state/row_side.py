"""One side of a row log: its rows, which blocks of the changelog hold them, and which of these are better written again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl

from .buffers import NEVER
from .keys import int_key
from .row_blocks import BLOCK_BYTES_MAX
from .row_chunks import Ints, RowChunks

TIME: Final = "__time"
MARK: Final = "__mark"
NUMBER: Final = "__number"
_GARBAGE_A_ROW: Final = 3
_GARBAGE_ROWS_MIN: Final = 50_000
_LISTED_A_ROW: Final = 4
_LISTED_ROWS_MIN: Final = 1_000_000
_BLOCKS_A_MERGE: Final = 256
_LARGE_BYTES: Final = BLOCK_BYTES_MAX // 4


class RowSide:
    """The rows of a side, and which blocks hold them."""

    def __init__(self, letter: bytes, schema: Mapping[str, pl.DataType]) -> None:
        self.rows = b"R" + letter
        self.freed = NEVER
        self.drops = b"D" + letter
        self.schema = dict(schema)
        self.chunks = RowChunks(self.schema)
        self.written = 0
        """Rows of smaller numbers are in blocks."""
        self.firsts: list[int] = []
        """The first number of each block, ascending."""
        self.sizes: list[int] = []
        self.bytes: list[int] = []
        """Before compression."""
        self.living: list[int] = []
        self.small_blocks = 0
        """Since small ones were merged."""
        self.dropped: list[Ints] = []
        """Since the last commit."""
        self.lists: dict[bytes, tuple[int, int]] = {}
        """Lists of drops in the changelog: the largest number in each, and how many are in it."""

    @property
    def block_schema(self) -> dict[str, pl.DataType]:
        return {**self.schema, TIME: pl.Int64(), MARK: pl.Int64(), NUMBER: pl.UInt32()}

    def add_block(self, first: int, frame: pl.DataFrame) -> None:
        self.firsts.append(first)
        self.sizes.append(frame.height)
        self.bytes.append(int(frame.estimated_size()))
        self.living.append(frame.height)
        self.small_blocks += self.bytes[-1] < _LARGE_BYTES

    def forget(self, numbers: Ints) -> None:
        """These rows of blocks live no more."""
        numbers = numbers[numbers < self.written]
        if not len(numbers):
            return
        blocks, counts = np.unique(np.searchsorted(self.firsts, numbers, "right") - 1, return_counts=True)
        for block, count in zip(blocks.tolist(), counts.tolist(), strict=True):
            self.living[block] -= count

    def take_dead_blocks(self) -> list[bytes]:
        return self.take_blocks([at for at, living in enumerate(self.living) if living == 0])

    def take_blocks(self, gone: Sequence[int]) -> list[bytes]:
        """Their keys; they are no blocks of this side any more."""
        keys = [self.rows + int_key(self.firsts[at]) for at in gone]
        for at in reversed(gone):
            del self.firsts[at], self.sizes[at], self.bytes[at], self.living[at]
        return keys

    def to_write_again(self, bytes_max: int) -> int | None:
        """From which block on rows are better written again. `bytes_max`: at most so much of living rows."""
        if self._are_lists_stale():
            return 0
        first = self._newest_of(bytes_max)
        total, living = sum(self.sizes[first:]), sum(self.living[first:])
        if total - living > _GARBAGE_A_ROW * living + _GARBAGE_ROWS_MIN:
            return first
        if self.small_blocks < _BLOCKS_A_MERGE:
            return None
        self.small_blocks = 0
        at, behind = len(self.firsts), 0
        while at > first and self.bytes[at - 1] < _LARGE_BYTES and (behind == 0 or self.living[at - 1] <= 2 * behind):
            at -= 1
            behind += self.living[at]
        return at if at < len(self.firsts) - 1 else None

    def _are_lists_stale(self) -> bool:
        """A list lives as long as the oldest block; here one has outlived what most of the lists say."""
        return sum(many for _, many in self.lists.values()) > _LISTED_A_ROW * sum(self.sizes) + _LISTED_ROWS_MIN

    def _newest_of(self, bytes_max: int) -> int:
        """Where the newest blocks begin whose living rows together are no more than this."""
        share = np.array(self.living) / np.maximum(self.sizes, 1)
        behind = np.cumsum((share * self.bytes)[::-1])
        return len(self.firsts) - int(behind.searchsorted(bytes_max, "right"))
