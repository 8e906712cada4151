"""Rows of one or more sides kept until an operator drops them, and what of them survives: blocks of rows, a few a commit.

    key                    value
    b"R" + side + number   Arrow stream of rows kept since the last commit: the side's columns, `__time`, `__mark`, `__number`
                           (from the key's number on)
    b"D" + side + number   int64 (little endian): numbers of rows of living blocks that were dropped
    b"W"                   int64s (order preserving): the watermark reached, the next number of a row, for each side how far it
                           is freed

A row dropped before it was committed is never written. A block whose rows are all dropped is deleted; so is a list of drops
older than every block. Rows are written again under new numbers, and the blocks they were in are deleted, where
  - few rows live in many blocks (one session goes on while thousands ended): all rows, when `_GARBAGE_A_ROW` are dead a living one
  - many commits made many small blocks: the newest blocks, each time `_BLOCKS_A_MERGE` have come, as far back as they are not
    twice as large as those behind them, or large enough to stay (the tiers of an LSM tree).
So it costs about the same a row however long it runs. Numbers are never given twice.

Drops that follow from a time alone need not be told (`told=False`): how far a side is freed is kept, and the operator drops
those rows again when it opens. (Not worked out from the watermark then: the grace may have become shorter in between.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl

from .buffers import NEVER
from .key_codes import KeyCodes
from .keys import int_key, key_int
from .row_blocks import BLOCK_BYTES_MAX, block_of, cut, rows_of
from .row_chunks import NO_KEY, Chunk, Flags, Ints, Picked, RowChunks, merged
from .store import Changes, StoreWrite

TIME: Final = "__time"
MARK: Final = "__mark"
NUMBER: Final = "__number"
_WATERMARK: Final = b"W"
_GARBAGE_A_ROW: Final = 3
_GARBAGE_ROWS_MIN: Final = 50_000
_BLOCKS_A_MERGE: Final = 256
_LARGE_BYTES: Final = BLOCK_BYTES_MAX // 4


class _Side:
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
        self.large: list[bool] = []
        self.living: list[int] = []
        self.small_blocks = 0
        """Since small ones were merged."""
        self.dropped: list[Ints] = []
        """Since the last commit."""
        self.lists: dict[bytes, int] = {}
        """Lists of drops in the changelog, and the largest number in each."""

    @property
    def block_schema(self) -> dict[str, pl.DataType]:
        return {**self.schema, TIME: pl.Int64(), MARK: pl.Int64(), NUMBER: pl.UInt32()}

    def add_block(self, first: int, frame: pl.DataFrame) -> None:
        self.firsts.append(first)
        self.sizes.append(frame.height)
        self.large.append(frame.estimated_size() >= _LARGE_BYTES)
        self.living.append(frame.height)
        self.small_blocks += not self.large[-1]

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
            del self.firsts[at], self.sizes[at], self.large[at], self.living[at]
        return keys

    def to_write_again(self) -> int | None:
        """From which block on rows are better written again."""
        total, living = sum(self.sizes), sum(self.living)
        if total - living > _GARBAGE_A_ROW * living + _GARBAGE_ROWS_MIN:
            return 0
        if self.small_blocks < _BLOCKS_A_MERGE:
            return None
        self.small_blocks = 0
        at, behind = len(self.firsts), 0
        while at and not self.large[at - 1] and (behind == 0 or self.living[at - 1] <= 2 * behind):
            at -= 1
            behind += self.living[at]
        return at if at < len(self.firsts) - 1 else None


class RowLog:
    """A `DurableState`. `key_of`: key texts of rows, the same for all sides, null for a null key; `sides`: the columns of each."""

    def __init__(
        self, name: str, key_of: Callable[[pl.DataFrame], pl.Series], sides: Sequence[Mapping[str, pl.DataType]]
    ) -> None:
        self._name = name
        self._key_of = key_of
        self._sides = [_Side(b"%d" % number, schema) for number, schema in enumerate(sides)]
        self._codes = KeyCodes()
        self.next_number = 0
        self._watermark = NEVER
        self._watermark_logged = NEVER
        self._unwritten: dict[bytes, bytes | None] = {}
        """What the database does not have yet; None: deleted."""

    @property
    def name(self) -> str:
        return self._name

    @property
    def size_bytes(self) -> int:
        return sum(side.chunks.size_bytes for side in self._sides)

    def rows(self, side: int) -> int:
        return self._sides[side].chunks.rows

    @property
    def codes_size(self) -> int:
        """Codes are below this."""
        return self._codes.size

    def freed(self, side: int) -> int:
        """As said in the last `advance`; before the first a time before all."""
        return self._sides[side].freed

    # What the operator does

    def open(self, watermark: int) -> int:
        """After `restore`: the larger of this watermark and the one kept with the rows."""
        self._watermark = max(watermark, self._watermark_logged)
        return self._watermark

    def keep(self, side: int, frame: pl.DataFrame, times: Ints, marks: Ints) -> None:
        """Rows in order of arrival."""
        numbers = np.arange(self.next_number, self.next_number + len(times))
        self.next_number += len(times)
        self._sides[side].chunks.append(Chunk(frame, times, self._coded(frame), marks, numbers))

    def _coded(self, frame: pl.DataFrame) -> Ints:
        keys = self._key_of(frame)
        if not keys.null_count():
            return self._codes.codes(keys).astype(np.int64)
        codes = self._codes.codes(keys.fill_null("")).astype(np.int64)
        return np.where(keys.is_null().to_numpy(), NO_KEY, codes)

    def null_keys(self, frame: pl.DataFrame) -> Flags:
        """Which rows have a null key."""
        flags: Flags = self._key_of(frame).is_null().to_numpy()
        return flags

    def mask(self, codes: Ints) -> Flags:
        """By code whether it is among these; its last entry is that of null keys, which never are."""
        flags = np.zeros(self._codes.size + 1, np.bool_)
        flags[codes] = True
        flags[NO_KEY] = False
        return flags

    def code_of(self, keys: pl.Series) -> Ints:
        """The codes of key texts."""
        return self._codes.codes(keys).astype(np.int64)

    def texts(self, codes: Ints) -> pl.Series:
        """The key texts of codes."""
        return self._codes.texts(codes)

    def pick(
        self, side: int, mask: Callable[[Chunk], Flags], *, after: int | None = None, before: int | None = None
    ) -> Picked:
        return self._sides[side].chunks.pick(mask, after=after, before=before)

    def drop(self, side: int, picked: Picked, *, told: bool | Flags) -> None:
        """`told=False`: that these rows are gone follows from `freed`. Other picks of the side are void after this."""
        one = self._sides[side]
        numbers = picked.numbers
        one.chunks.drop(picked)
        one.forget(numbers)
        if len(numbers := numbers[told & (numbers < one.written)]):
            one.dropped.append(numbers)

    def advance(self, watermark: int, freed: Sequence[int]) -> None:
        """`freed`: for each side up to where it is now freed, in whatever sense the operator gives it."""
        self._watermark = max(self._watermark, watermark)
        for side, upto in zip(self._sides, freed, strict=True):
            side.freed = max(side.freed, upto)
        if self._codes.should_renew:
            self._renew_codes()

    def _renew_codes(self) -> None:
        chunks = [chunk for side in self._sides for chunk in side.chunks.chunks]
        live = np.zeros(self._codes.size + 1, np.bool_)
        for chunk in chunks:
            live[chunk.codes[chunk.living()]] = True
        new_of = self._codes.renew(live[:-1])
        if new_of is not None:
            new_of = np.append(new_of, NO_KEY)  # the code of null keys stays; dead rows may get it
            for chunk in chunks:
                chunk.codes = new_of[chunk.codes]

    # What the task does

    def take_changes(self) -> list[Changes]:
        made: dict[bytes, bytes | None] = {}
        gone: list[bytes] = []
        for side in self._sides:
            if (block := side.to_write_again()) is not None:
                gone += self._write_again(side, block)
            made |= self._blocks(side)
            gone += side.take_dead_blocks()
            made |= self._drops(side)
            gone += self._dead_lists(side)
        made |= dict.fromkeys(gone)  # behind the rows: some of them may be there twice, none is lost
        if made or self._watermark > self._watermark_logged:
            numbers = (self._watermark, self.next_number, *(side.freed for side in self._sides))
            made[_WATERMARK] = b"".join(map(int_key, numbers))
            self._watermark_logged = self._watermark
        self._unwritten |= made
        return [Changes.of(list(made), list(made.values()))] if made else []

    def take_checkpoint(self) -> StoreWrite:
        given, self._unwritten = self._unwritten, {}
        return StoreWrite([Changes.of(list(given), list(given.values()))] if given else ())

    def restore(self, stored: Iterable[Changes], tail: Iterable[Changes]) -> None:
        found: dict[bytes, bytes | None] = {}
        for changes in stored:
            found.update(changes.pairs())
        for changes in tail:
            fresh = dict(changes.pairs())
            found |= fresh
            self._unwritten |= fresh
        entries = {key: value for key, value in sorted(found.items()) if value is not None}
        if (logged := entries.pop(_WATERMARK, None)) is not None:
            self._watermark_logged, self.next_number = key_int(logged), key_int(logged, 8)
            for number, side in enumerate(self._sides, 2):
                side.freed = key_int(logged, 8 * number)
        for side in self._sides:
            self._restore_side(side, entries)

    # Blocks

    def _write_again(self, side: _Side, block: int) -> list[bytes]:
        """What lives in this block and behind it gets new numbers, as if it had come just now; what was written goes."""
        first = side.firsts[block] if side.firsts else 0
        for chunk in side.chunks.chunks:
            rows = chunk.living()
            rows = rows[chunk.numbers[rows] >= first]
            chunk.numbers[rows] = np.arange(self.next_number, self.next_number + len(rows))
            self.next_number += len(rows)
        return side.take_blocks(range(block, len(side.firsts)))

    def _blocks(self, side: _Side) -> Iterator[tuple[bytes, bytes]]:
        fresh = side.chunks.pick(lambda chunk: chunk.numbers >= side.written)
        side.written = self.next_number
        if not len(fresh):
            return
        numbers = pl.Series(NUMBER, fresh.numbers)
        whole = fresh.frame().with_columns(pl.Series(TIME, fresh.times), pl.Series(MARK, fresh.marks), numbers)
        for frame in cut(whole):
            first = int(frame[NUMBER][0])
            side.add_block(first, frame)
            yield side.rows + int_key(first), block_of(frame.with_columns((pl.col(NUMBER) - first).cast(pl.UInt32)))

    def _oldest(self, side: _Side) -> int:
        return side.firsts[0] if side.firsts else self.next_number

    def _dead_lists(self, side: _Side) -> list[bytes]:
        dead = [key for key, largest in side.lists.items() if largest < self._oldest(side)]
        for key in dead:
            del side.lists[key]
        return dead

    def _drops(self, side: _Side) -> Iterator[tuple[bytes, bytes]]:
        numbers = np.sort(np.concatenate(side.dropped)) if side.dropped else np.zeros(0, np.int64)
        side.dropped = []
        numbers = numbers[numbers >= self._oldest(side)]
        for at in range(0, len(numbers), BLOCK_BYTES_MAX // 8):
            some = numbers[at : at + BLOCK_BYTES_MAX // 8]
            key = side.drops + int_key(self.next_number)
            self.next_number += 1  # a number for each list too, so that no key is used twice
            side.lists[key] = int(some[-1])
            yield key, some.astype("<i8").tobytes()

    def _restore_side(self, side: _Side, entries: Mapping[bytes, bytes]) -> None:
        lists = {key: np.frombuffer(value, "<i8") for key, value in entries.items() if key[:2] == side.drops}
        side.lists = {key: int(numbers[-1]) for key, numbers in lists.items()}
        dropped = np.sort(np.concatenate([np.zeros(0, np.int64), *lists.values()]))
        chunks = []
        for key, value in entries.items():
            if key[:2] == side.rows:
                chunks.append(self._chunk(side, key_int(key, 2), value))
                side.add_block(key_int(key, 2), chunks[-1].frame)
        side.written = self.next_number
        if not chunks:
            return
        whole = merged(chunks)
        side.chunks.chunks = [whole]
        gone = np.flatnonzero(np.isin(whole.numbers, dropped))
        if len(gone):
            side.forget(whole.numbers[gone])
            side.chunks.drop(Picked(side.schema, [(whole, gone)]))

    def _chunk(self, side: _Side, first: int, value: bytes) -> Chunk:
        frame = rows_of(value, side.block_schema, f"join {self._name}, row block {first}")
        numbers = frame[NUMBER].to_numpy().astype(np.int64) + first
        rows = frame.select(list(side.schema))
        times, marks = (frame[name].to_numpy() for name in (TIME, MARK))
        return Chunk(rows, times, self._coded(rows), marks, numbers)
