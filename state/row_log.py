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
Where memory is limited no more than that is written again at once: of many dead rows in older blocks those in the newest go.
All is, whatever the limit, when one of the oldest rows has outlived so many others that lists of drops are most of what there is.
So it costs about the same a row however long it runs. Numbers are never given twice.

Larger than memory (`spill_to`): the rows of all sides together are held to a limit; what is beyond it lies in scratch files, the
oldest first. A restore holds to it too: blocks wait on disk, and are made into rows some at a time. Names of keys are in memory.

Drops that follow from a time alone need not be told (`told=False`): how far a side is freed is kept, and the operator drops
those rows again when it opens. (Not worked out from the watermark then: the grace may have become shorter in between.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
import polars as pl

from .buffers import NEVER
from .dropped_rows import Dropped
from .key_codes import KeyCodes
from .keys import int_key, key_int
from .restored import WATERMARK, Restored
from .row_blocks import BLOCK_BYTES_MAX, block_of, cut, rows_of
from .row_chunks import NO_KEY, Chunk, Flags, Ints, Picked, Rows, Whole, merged
from .row_parts import cuts
from .row_side import MARK, NUMBER, TIME, RowSide
from .store import Changes, StoreWrite

_PARTS_IN_LIMIT: Final = 8
"""What is written, restored or worked on at once is about this part of what memory may be used."""
_PART_BYTES_MAX: Final = 1 << 62
"""Where nothing limits the memory."""
_COMMIT_BYTES: Final = 16 << 20
"""Of rows made into blocks at once."""


class RowLog:
    """A `DurableState` that `Spills`.

    `key_of`: key texts of rows, the same for all sides, null for a null key; `sides`: the columns of each.
    """

    def __init__(
        self, name: str, key_of: Callable[[pl.DataFrame], pl.Series], sides: Sequence[Mapping[str, pl.DataType]]
    ) -> None:
        self._name = name
        self._key_of = key_of
        self._sides = [RowSide(b"%d" % number, schema) for number, schema in enumerate(sides)]
        self._codes = KeyCodes()
        self.next_number = 0
        self._watermark = NEVER
        self._watermark_logged = NEVER
        self._unwritten: dict[bytes, bytes | None] = {}
        """What the database does not have yet; None: deleted."""
        self._folder: Path | None = None
        self._bytes_max = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def size_bytes(self) -> int:
        """Of memory, which `spill_to` limits: the rows."""
        return sum(side.chunks.size_bytes for side in self._sides)

    @property
    def disk_bytes(self) -> int:
        return sum(side.chunks.disk_bytes for side in self._sides)

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
        """Rows in order of arrival. Raises DiskError."""
        numbers = np.arange(self.next_number, self.next_number + len(times))
        self.next_number += len(times)
        self._sides[side].chunks.append(Chunk(frame, times, self._coded(frame), marks, numbers))
        self._spill()

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

    def codes_of(self, side: int, mask: Callable[[Chunk], Flags], *, unless: Callable[[Chunk], bool]) -> Flags:
        """`mask` of the codes of the living rows for which a mask is true, in chunks but for those of which `unless` is."""
        flags = np.zeros(self._codes.size + 1, np.bool_)
        for chunk in self._sides[side].chunks.chunks:
            if not unless(chunk):
                rows = mask(chunk) if chunk.alive is None else mask(chunk) & chunk.alive
                flags[chunk.codes[rows]] = True
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

    def time_parts(self, before: int, side: int | None = None) -> list[tuple[int | None, int]]:
        """Ranges `after <= time < before` that together are all times before this one, each with about as many rows, of both
        sides or of one, as may be worked on at once."""
        at = self._cuts("times", before, side)
        return list(zip([None, *at], [*at, before], strict=True))

    def key_parts(self, before: int) -> Sequence[tuple[int, int] | None]:
        """Ranges `first <= code < stop` of all codes; the same of them, of rows before this time. None: all."""
        at = self._cuts("codes", before, None)
        return [None] if not at else list(zip([NO_KEY, *at], [*at, self._codes.size], strict=True))

    def _cuts(self, column: Literal["times", "codes"], before: int, side: int | None) -> list[int]:
        sides = self._sides if side is None else [self._sides[side]]
        if sum(one.chunks.living_bytes for one in sides) <= self._part_bytes:
            return []
        return cuts([chunk for one in sides for chunk in one.chunks.chunks], column, before, self._part_bytes)

    def held(self, picked: Picked) -> Rows:
        """The rows gathered, where they are no more than may be worked on at once."""
        return Whole(picked.frame()) if picked.size_bytes <= self._part_bytes else picked

    def drop(self, side: int, picked: Picked, *, told: bool | Flags) -> None:
        """`told=False`: that these rows are gone follows from `freed`. Other picks of the side are void after this.

        Raises DiskError.
        """
        one = self._sides[side]
        numbers = picked.numbers
        one.chunks.drop(picked)
        self._spill()
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
                chunk.recode(new_of[chunk.codes], self._folder)

    # What the task does

    def spill_to(self, folder: Path, bytes_max: int) -> None:
        self._folder, self._bytes_max = folder, bytes_max
        for side in self._sides:
            side.chunks.folder, side.chunks.chunk_bytes_max = folder, self._part_bytes

    @property
    def _part_bytes(self) -> int:
        return _PART_BYTES_MAX if self._folder is None else self._bytes_max // _PARTS_IN_LIMIT

    def _spill(self) -> None:
        """Of the side with more in memory, until all together are within the limit."""
        while self._folder is not None and self.size_bytes > self._bytes_max:
            if not max((side.chunks for side in self._sides), key=lambda chunks: chunks.loose_bytes).spill():
                return

    def take_spilled_bytes(self) -> int:
        """Written to disk since the last call."""
        return sum(side.chunks.take_spilled_bytes() for side in self._sides)

    def take_changes(self) -> list[Changes]:
        made: dict[bytes, bytes | None] = {}
        gone: list[bytes] = []
        for side in self._sides:
            if (block := side.to_write_again(self._bytes_max if self._folder else _PART_BYTES_MAX)) is not None:
                gone += self._write_again(side, block)
            made |= self._blocks(side)
            gone += side.take_dead_blocks()
            made |= self._drops(side)
            gone += self._dead_lists(side)
        made |= dict.fromkeys(gone)  # behind the rows: some of them may be there twice, none is lost
        if made or self._watermark > self._watermark_logged:
            numbers = (self._watermark, self.next_number, *(side.freed for side in self._sides))
            made[WATERMARK] = b"".join(map(int_key, numbers))
            self._watermark_logged = self._watermark
        self._unwritten |= made
        return [Changes.of(list(made), list(made.values()))] if made else []

    def take_checkpoint(self) -> StoreWrite:
        given, self._unwritten = self._unwritten, {}
        return StoreWrite([Changes.of(list(given), list(given.values()))] if given else ())

    def restore(self, stored: Iterable[Changes], tail: Iterable[Changes]) -> None:
        newer = {key: value for changes in tail for key, value in changes.pairs()}
        self._unwritten |= newer
        restored = Restored()
        if self._folder is not None:
            restored.spill_to(self._folder, self._part_bytes)
        for changes in stored:
            for key, value in changes.pairs():
                if value is not None and key not in newer:
                    restored.put(key, value)
        restored.memory |= {key: value for key, value in newer.items() if value is not None}
        if (logged := restored.memory.pop(WATERMARK, None)) is not None:
            self._watermark_logged, self.next_number = key_int(logged), key_int(logged, 8)
            for number, side in enumerate(self._sides, 2):
                side.freed = key_int(logged, 8 * number)
        for side in self._sides:
            self._restore_side(side, restored.beginning_with(side.rows), restored.beginning_with(side.drops))

    # Blocks

    def _write_again(self, side: RowSide, block: int) -> list[bytes]:
        """What lives in this block and behind it gets new numbers, as if it had come just now; what was written goes."""
        first = side.firsts[block] if side.firsts else 0
        for chunk, rows in side.chunks.of_numbers_from(first).parts:
            numbers = chunk.numbers.copy()
            numbers[rows] = np.arange(self.next_number, self.next_number + len(rows))
            chunk.renumber(numbers, self._folder)
            self.next_number += len(rows)
        return side.take_blocks(range(block, len(side.firsts)))

    def _blocks(self, side: RowSide) -> Iterator[tuple[bytes, bytes]]:
        fresh = side.chunks.of_numbers_from(side.written)
        side.written = self.next_number
        for some in fresh.in_parts(max(min(_COMMIT_BYTES, self._part_bytes), BLOCK_BYTES_MAX)):
            numbers = pl.Series(NUMBER, some.numbers)
            whole = some.frame().with_columns(pl.Series(TIME, some.times), pl.Series(MARK, some.marks), numbers)
            for frame in cut(whole):
                first = int(frame[NUMBER][0])
                side.add_block(first, frame)
                yield side.rows + int_key(first), block_of(frame.with_columns((pl.col(NUMBER) - first).cast(pl.UInt32)))

    def _oldest(self, side: RowSide) -> int:
        return side.firsts[0] if side.firsts else self.next_number

    def _dead_lists(self, side: RowSide) -> list[bytes]:
        dead = [key for key, (largest, _) in side.lists.items() if largest < self._oldest(side)]
        for key in dead:
            del side.lists[key]
        return dead

    def _drops(self, side: RowSide) -> Iterator[tuple[bytes, bytes]]:
        numbers = np.sort(np.concatenate(side.dropped)) if side.dropped else np.zeros(0, np.int64)
        side.dropped = []
        numbers = numbers[numbers >= self._oldest(side)]
        for at in range(0, len(numbers), BLOCK_BYTES_MAX // 8):
            some = numbers[at : at + BLOCK_BYTES_MAX // 8]
            key = side.drops + int_key(self.next_number)
            self.next_number += 1  # a number for each list too, so that no key is used twice
            side.lists[key] = int(some[-1]), len(some)
            yield key, some.astype("<i8").tobytes()

    def _restore_side(self, side: RowSide, blocks: Mapping[bytes, bytes], lists: Mapping[bytes, bytes]) -> None:
        """Block by block, in the order of their numbers."""
        dropped = Dropped(lists)
        side.lists = dropped.known
        side.written = self.next_number
        chunks: list[Chunk] = []
        for key in sorted(blocks):
            chunks.append(self._chunk(side, key_int(key, 2), blocks[key]))
            side.add_block(key_int(key, 2), chunks[-1].frame)
            if sum(chunk.whole_bytes for chunk in chunks) >= self._part_bytes:
                self._put_back(side, chunks, dropped)
                chunks = []
        if chunks:
            self._put_back(side, chunks, dropped)

    def _put_back(self, side: RowSide, chunks: Sequence[Chunk], dropped: Dropped) -> None:
        whole = merged(chunks)
        gone = np.flatnonzero(np.isin(whole.numbers, dropped.between(int(whole.numbers[0]), whole.last)))
        side.forget(whole.numbers[gone])
        if len(gone) < len(whole):
            if len(gone):
                whole.drop(gone)
            side.chunks.append(merged([whole]))
        self._spill()

    def _chunk(self, side: RowSide, first: int, value: bytes) -> Chunk:
        frame = rows_of(value, side.block_schema, f"join {self._name}, row block {first}")
        numbers = frame[NUMBER].to_numpy().astype(np.int64) + first
        rows = frame.select(list(side.schema))
        times, marks = (frame[name].to_numpy() for name in (TIME, MARK))
        return Chunk(rows, times, self._coded(rows), marks, numbers)
