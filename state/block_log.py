"""Blocks of a changelog that live for a while: few of them, however small each commit is.

    key = prefix + number (8 bytes, order preserving); a block stands for the numbers from its own up to the next one's

Eight neighbours of one level become one block of the next, in the same commit: the first one's key is written anew and the
others are deleted. So n commits leave fewer than eight blocks a level and as many levels as the logarithm of n to the base 8,
until a block has half of `bytes_max`, where it stays as it is; every byte is written once a level (from 100 bytes to 256 KiB 4.4
times, docs/decisions/0019). The tiers are those of an LSM tree; blocks not yet full are kept in memory, at most a few `bytes_max`.

Blocks die in about the order of their numbers. Merged ones die with their youngest part, so neighbours are merged only where they
die within `span_ms_max`: else much that is dead would be kept, and restored.

Where the write is not atomic (at-least-once, a crash in between) a merged block may stand beside parts of itself: it comes first
in the log, `covered` finds the parts.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from .keys import int_key

T = TypeVar("T")

FAN_IN: Final = 8
_LEVEL_0_BYTES: Final = 512


@dataclass(slots=True)
class Block(Generic[T]):
    """Numbers `number` to `end`."""

    number: int
    end: int
    content: T
    size_bytes: int
    dies_at: int
    """All of it is dead when the watermark is above this."""
    logged: bool = False
    """Whether its key is in the changelog."""
    level: int = 0


class BlockLog(Generic[T]):
    """`joined` makes one content of several, `encoded` a record's value of one."""

    def __init__(
        self,
        prefix: bytes,
        joined: Callable[[Sequence[T]], T],
        encoded: Callable[[T], bytes],
        *,
        bytes_max: int,
        span_ms_max: int,
    ) -> None:
        self.prefix = prefix
        self._joined, self._encoded = joined, encoded
        self._bytes_max, self._span_ms_max = bytes_max, span_ms_max
        self._open: list[Block[T]] = []
        """May still be merged: levels fall, numbers rise without a gap."""
        self._new: dict[int, Block[T]] = {}
        self._replaced: list[int] = []
        self._dies_at: dict[int, int] = {}
        self._dying: list[tuple[int, int]] = []
        """A heap of (dies at, number), the first to die on top; what is not as in `_dies_at` is out of date."""

    def add(self, block: Block[T]) -> None:
        """The next block, one more commit's or one that was restored."""
        self._lives(block.number, block.dies_at)
        if not block.logged:
            self._new[block.number] = block
        if self._open and self._open[-1].end != block.number:
            self._open = []
        if 2 * block.size_bytes > self._bytes_max:
            self._open = []
            return
        block.level = max(block.level, _level(block.size_bytes))
        for earlier in reversed(self._open):
            if earlier.level >= block.level:
                break
            earlier.level = block.level
        self._open.append(block)
        self._settle()

    def known(self, number: int, dies_at: int) -> None:
        """It is in the changelog, and is deleted when it dies."""
        self._lives(number, dies_at)

    def take(self, watermark: int) -> Iterator[tuple[bytes, bytes | None]]:
        """What the changelog is to be told, in this order: new blocks, then those that they replace or that have died."""
        new, self._new = self._new, {}
        for number, block in new.items():
            if block.dies_at >= watermark:
                yield self._key(number), self._encoded(block.content)
                block.logged = True
            elif not block.logged:
                del self._dies_at[number]
                self._open = [other for other in self._open if other.number > number]
        replaced, self._replaced = self._replaced, []
        yield from ((self._key(number), None) for number in replaced)
        while self._dying and self._dying[0][0] < watermark:
            dies_at, number = heapq.heappop(self._dying)
            if self._dies_at.get(number) == dies_at:
                del self._dies_at[number]
                self._open = [block for block in self._open if block.number > number]
                yield self._key(number), None

    @property
    def blocks(self) -> int:
        """That are alive."""
        return len(self._dies_at)

    @property
    def size_bytes(self) -> int:
        """Of the contents held."""
        held = {block.number: block.size_bytes for block in [*self._open, *self._new.values()]}
        return sum(held.values())

    def _lives(self, number: int, dies_at: int) -> None:
        self._dies_at[number] = dies_at
        heapq.heappush(self._dying, (dies_at, number))

    def _key(self, number: int) -> bytes:
        return self.prefix + int_key(number)

    # Merging

    def _settle(self) -> None:
        group = self._last_level()
        total = sum(block.size_bytes for block in group)
        if total > self._bytes_max:  # the last does not fit: what was before is as large as it gets
            self._open = group[-1:]
            self._merge(group[:-1])
        elif len(group) >= FAN_IN:
            del self._open[-len(group) :]
            if (one := self._merge(group)) is not None:
                self.add(one)

    def _last_level(self) -> list[Block[T]]:
        first = len(self._open)
        while first and self._open[first - 1].level == self._open[-1].level:
            first -= 1
        return self._open[first:]

    def _merge(self, group: Sequence[Block[T]]) -> Block[T] | None:
        deaths = [block.dies_at for block in group]
        if len(group) < 2 or max(deaths) - min(deaths) > self._span_ms_max:
            return None
        first, size = group[0], sum(block.size_bytes for block in group)
        content = self._joined([block.content for block in group])
        one = Block(first.number, group[-1].end, content, size, max(deaths), first.logged, first.level + 1)
        for block in group:
            self._new.pop(block.number, None)
            self._dies_at.pop(block.number)
        self._replaced += [block.number for block in group[1:] if block.logged]
        self._new[one.number] = one
        self._lives(one.number, one.dies_at)
        return one


def _level(size_bytes: int) -> int:
    """Eightfold size, one level more."""
    return max(0, (size_bytes // _LEVEL_0_BYTES).bit_length() - 1) // 3


@dataclass(slots=True)
class Covered:
    """Blocks in the order of their numbers: which are parts of one before, left over from a write that was broken off.

    A dead block that came back with an old database can lie within the numbers of a living one too, but dies earlier than any
    part of it would be let go by the caller, who passes over dead blocks.
    """

    end: int | None = None
    dies_at: int = 0

    def has(self, end: int, dies_at: int) -> bool:
        if self.end is not None and end <= self.end and dies_at <= self.dies_at:
            return True
        self.end, self.dies_at = end, dies_at
        return False
