"""Count windows by key: what the window a key is in has gathered, and how many a key has had.

    rows of a batch -> (key, ordinal) pairs -> slots: the first pair of a key is the window it is in, at the slot of its code;
                                               further ones get slots behind all codes, for the time of the batch
    bytes: key = key text (UTF-8); value = ordinal, rows held, latest time, packed accumulators (`slots.pack`)

A full window's accumulators are emptied at once. The ordinal is kept for good, since nobody knows whether the key will come again:
memory grows with the number of different keys (a code, flags, 24 bytes and empty accumulators each) and with nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .key_codes import KeyCodes
from .slot_flags import SlotFlags
from .slots import Accumulator, Slots, grown, pack, plain, unpack
from .store import Changes, StoreWrite
from .window_keys import binary_array
from .windows import taken

_UNLOGGED: Final = 1
_UNSAVED: Final = 2
"""Flags of a key: changed since it was told to the changelog, to the database."""

_BEFORE_ALL: Final = np.iinfo(np.int64).min
_HEAD: Final = (np.dtype(np.int64),) * 3

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CountedRows:
    """Windows as columns of one length."""

    keys: pl.Series
    ordinals: Ints
    """Of the window among those of its key, from 0."""
    times: Ints
    """The largest of its rows."""
    results: Sequence[pl.Series]
    unfit: NDArray[np.bool_] | None
    """Rows of which some result does not fit its type; None where all do."""

    def __len__(self) -> int:
        return len(self.ordinals)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The (key, window) pairs of a batch, by key and then by window."""

    slot_of_row: Slots
    codes: Ints
    nth: Ints
    """Of the window, from the one its key was in (0)."""
    slots: Ints
    rows: Ints
    """How many of the batch are in it."""
    last_row: Ints
    """The position in the batch of the last of them."""


class CountedState:
    """All count windows of one step in one task: a `DurableState`. `size`: rows a window."""

    def __init__(self, name: str, size: int, accumulators: Callable[[], Sequence[Accumulator]]) -> None:
        self._name, self._size = name, size
        self._accumulators = accumulators()
        self._layout = (*_HEAD, *(kind for one in self._accumulators for kind in one.layout))
        self._codes = KeyCodes()
        self._ordinal = np.zeros(0, np.int64)
        self._held = np.zeros(0, np.int64)
        self._latest = np.zeros(0, np.int64)
        self._flags = SlotFlags(_UNLOGGED | _UNSAVED)

    @property
    def name(self) -> str:
        return self._name

    @property
    def size_bytes(self) -> int:
        """What the keys take in memory (without their dictionary)."""
        own = self._ordinal.nbytes + self._held.nbytes + self._latest.nbytes + self._flags.size_bytes
        return own + sum(accumulator.size_bytes for accumulator in self._accumulators)

    # What the operator does

    def add(self, keys: pl.Series, values: Sequence[pl.Series | None], times: Ints) -> CountedRows | None:
        """Rows in order of arrival. Gives the windows that are full, in the order in which they became it."""
        if not len(keys):
            return None
        codes = self._codes.codes(keys).astype(np.int64)
        self._reserve(self._codes.size)
        pairs = self._pairs(codes)
        self._reserve(self._codes.size + int((pairs.nth > 0).sum()))
        np.maximum.at(self._latest, pairs.slot_of_row, times)
        for accumulator, column in zip(self._accumulators, values, strict=True):
            accumulator.add(pairs.slot_of_row, None if column is None else plain(column), times)
        rows = np.where(pairs.nth == 0, self._held[pairs.codes], 0) + pairs.rows
        full = rows == self._size
        in_order = np.flatnonzero(full)[np.argsort(pairs.last_row[full], kind="stable")]
        given = self._rows(pairs.codes[in_order], pairs.nth[in_order], pairs.slots[in_order])
        self._move_on(pairs, rows, full)
        return given

    def take_partial(self) -> CountedRows | None:
        """The windows that are not full, with what they have; the next row of their key begins another."""
        codes = np.flatnonzero(self._held)
        given = self._rows(codes, np.zeros(len(codes), np.int64), codes)
        self._clear(codes)
        self._ordinal[codes] += 1
        self._held[codes] = 0
        self._flags.touch(codes)
        return given

    # What the task does

    def take_changes(self) -> list[Changes]:
        return self._puts(_UNLOGGED)

    def take_checkpoint(self) -> StoreWrite:
        return StoreWrite(self._puts(_UNSAVED))

    def restore(self, stored: Iterable[Changes], tail: Iterable[Changes]) -> None:
        for changes in stored:
            self._load(changes, 0)
        for changes in tail:
            self._load(changes, _UNSAVED)

    # -- inside

    def _reserve(self, slots: int) -> None:
        if slots <= len(self._flags):
            return
        self._ordinal, self._held = grown(self._ordinal, slots, 0), grown(self._held, slots, 0)
        self._latest = grown(self._latest, slots, _BEFORE_ALL)
        self._flags.reserve(slots)
        for accumulator in self._accumulators:
            accumulator.reserve(len(self._flags))

    def _pairs(self, codes: Ints) -> _Pairs:
        order = np.argsort(codes, kind="stable")
        sorted_codes = codes[order]
        begins_key = np.append(True, sorted_codes[1:] != sorted_codes[:-1])
        first = np.flatnonzero(begins_key)
        place = np.arange(len(codes)) - first[np.cumsum(begins_key) - 1]
        nth = (self._held[sorted_codes] + place) // self._size
        begins = begins_key | np.append(True, nth[1:] != nth[:-1])
        firsts = np.flatnonzero(begins)
        stops = np.append(firsts[1:], len(codes))
        further = nth[firsts] > 0
        slots = np.where(further, self._codes.size + np.cumsum(further) - 1, sorted_codes[firsts])
        slot_of_row = np.empty(len(codes), np.int64)
        slot_of_row[order] = slots[np.cumsum(begins) - 1]
        return _Pairs(slot_of_row, sorted_codes[firsts], nth[firsts], slots, stops - firsts, order[stops - 1])

    def _rows(self, codes: Ints, nth: Ints, slots: Ints) -> CountedRows | None:
        if not len(codes):
            return None
        masks = [mask for one in self._accumulators if (mask := one.unfit(slots)) is not None]
        return CountedRows(
            self._codes.texts(codes),
            self._ordinal[codes] + nth,
            self._latest[slots],
            [accumulator.result(slots) for accumulator in self._accumulators],
            np.logical_or.reduce(masks) if masks else None,
        )

    def _move_on(self, pairs: _Pairs, rows: Ints, full: NDArray[np.bool_]) -> None:
        """Full windows are emptied; one begun in this batch becomes the one its key is in."""
        self._clear(pairs.slots[full])
        begun = ~full & (pairs.nth > 0)
        into, source = pairs.codes[begun], pairs.slots[begun]
        self._latest[into] = self._latest[source]
        for accumulator in self._accumulators:
            accumulator.merge(into, source)
        self._clear(source)
        np.add.at(self._ordinal, pairs.codes[full], 1)
        self._held[pairs.codes] = 0
        self._held[pairs.codes[~full]] = rows[~full]
        self._flags.touch(pairs.codes)

    def _clear(self, slots: Ints) -> None:
        self._latest[slots] = _BEFORE_ALL
        for accumulator in self._accumulators:
            accumulator.clear(slots)

    def _puts(self, flag: int) -> list[Changes]:
        codes = self._flags.take(flag)
        if not len(codes):
            return []
        head: list[Any] = [self._ordinal[codes], self._held[codes], self._latest[codes]]
        parts = [*head, *(part for accumulator in self._accumulators for part in accumulator.encode(codes))]
        return [Changes(binary_array(self._codes.texts(codes).cast(pl.Binary)), pack(parts))]

    def _load(self, changes: Changes, flags: int) -> None:
        """Sets keys to what was encoded; of several of one key the last counts."""
        if not len(changes):
            return
        codes = self._codes.codes(pl.Series("key", changes.keys, dtype=pl.Binary).cast(pl.String)).astype(np.int64)
        self._reserve(self._codes.size)
        last = len(codes) - 1 - np.unique(codes[::-1], return_index=True)[1]
        codes = codes[last]
        ordinal, held, latest, *parts = (taken(part, last) for part in unpack(changes.values, self._layout))
        self._ordinal[codes], self._held[codes], self._latest[codes] = ordinal, held, latest
        self._flags.put(codes, flags)
        for accumulator in self._accumulators:
            mine, parts = parts[: len(accumulator.layout)], parts[len(accumulator.layout) :]
            accumulator.decode(codes, mine)
