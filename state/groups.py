"""What is gathered by key for ever: groups in memory by the code of their key, told to the changelog at commits and to the
database at checkpoints.

    accumulator column[code]      the slots of `slots.py`, with the code itself as the slot: there is one numbering only
    bytes: key = key text (UTF-8); value = packed accumulators (`slots.pack`), the time of the group's latest row first

A group is never freed: whoever counts without a window wants the count for good. So memory grows with the number of different
keys (a code, flags and the accumulators each), and with nothing else.
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
from .slots import Accumulator, FixedAccumulator, Slots, Values, pack, plain, unpack
from .store import Changes, StoreWrite
from .window_keys import binary_array
from .windows import taken

_UNEMITTED: Final = 1
_UNLOGGED: Final = 2
_UNSAVED: Final = 4
"""Flags of a group: changed since it was last given, told to the changelog, told to the database."""

_CHANGED: Final = _UNEMITTED | _UNLOGGED | _UNSAVED

_BEFORE_ALL: Final = np.int64(np.iinfo(np.int64).min)


@dataclass(frozen=True, slots=True)
class GroupRows:
    """Results as columns of one length."""

    keys: pl.Series
    times: NDArray[np.int64]
    """Of each group's latest row, in event time."""
    results: Sequence[pl.Series]
    unfit: NDArray[np.bool_] | None
    """Rows of which some result does not fit its type; None where all do."""

    def __len__(self) -> int:
        return len(self.times)


class _LatestTime(FixedAccumulator):
    """The largest event time of each group."""

    def __init__(self) -> None:
        super().__init__(_BEFORE_ALL)

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        np.maximum.at(self.columns[0], slots, times)

    def merge(self, into: Slots, source: Slots) -> None:
        np.maximum.at(self.columns[0], into, self.columns[0][source])

    def result(self, slots: Slots) -> pl.Series:
        return pl.Series(self.columns[0][slots])


class GroupState:
    """All groups of one step in one task: a `DurableState`."""

    def __init__(self, name: str, accumulators: Callable[[], Sequence[Accumulator]]) -> None:
        self._name = name
        self._latest = _LatestTime()
        self._accumulators: list[Accumulator] = [self._latest, *accumulators()]
        self._layouts = [accumulator.layout for accumulator in self._accumulators]
        self._codes = KeyCodes()
        self._flags = SlotFlags(_CHANGED)
        self._index: dict[str, int] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def size_bytes(self) -> int:
        """What the groups take in memory (without the key dictionary)."""
        return self._flags.size_bytes + sum(accumulator.size_bytes for accumulator in self._accumulators)

    # What the operator does

    def add(self, keys: pl.Series, values: Sequence[pl.Series | None], times: NDArray[np.int64]) -> None:
        """`keys`: key texts without nulls. `values`: a column an aggregate, as its accumulator takes it."""
        codes = self._codes_of(keys)
        self._flags.touch(codes)
        self._latest.add(codes, None, times)
        for accumulator, column in zip(self._accumulators[1:], values, strict=True):
            accumulator.add(codes, None if column is None else plain(column), times)

    def take_updates(self) -> GroupRows | None:
        """Groups changed since the last call, with their results."""
        codes = self._flags.take(_UNEMITTED)
        return self._results(codes) if len(codes) else None

    def read(self, keys: pl.Series | None) -> GroupRows:
        """The groups of these key texts that there are, each once, or all of them, as they are now."""
        known = np.flatnonzero(self._latest.columns[0][: self._codes.size] != _BEFORE_ALL)
        if keys is not None:
            self._index_to(self._codes.size)
            asked = {code for key in keys.unique() if (code := self._index.get(key)) is not None}
            known = known[np.isin(known, list(asked))]
        return self._results(known)

    def _index_to(self, size: int) -> None:
        """Groups by key text, made when one is first asked for: the dictionary would remember every key that is asked for."""
        texts = self._codes.texts(np.arange(len(self._index), size))
        self._index.update(zip(texts.to_list(), range(len(self._index), size), strict=True))

    def _results(self, codes: NDArray[Any]) -> GroupRows:
        masks = [mask for a in self._accumulators[1:] if (mask := a.unfit(codes)) is not None]
        return GroupRows(
            self._codes.texts(codes),
            self._latest.columns[0][codes],
            [accumulator.result(codes) for accumulator in self._accumulators[1:]],
            np.logical_or.reduce(masks) if masks else None,
        )

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

    def _codes_of(self, keys: pl.Series) -> NDArray[np.uint32]:
        """With room for all of them in every column."""
        codes = self._codes.codes(keys)
        if self._codes.size > len(self._flags):
            self._flags.reserve(self._codes.size)
            for accumulator in self._accumulators:
                accumulator.reserve(len(self._flags))
        return codes

    def _puts(self, flag: int) -> list[Changes]:
        codes = self._flags.take(flag)
        if not len(codes):
            return []
        parts = [part for accumulator in self._accumulators for part in accumulator.encode(codes)]
        return [Changes(binary_array(self._codes.texts(codes).cast(pl.Binary)), pack(parts))]

    def _load(self, changes: Changes, flags: int) -> None:
        """Sets groups to what was encoded; of several of one key the last counts."""
        if not len(changes):
            return
        codes = self._codes_of(pl.Series("key", changes.keys, dtype=pl.Binary).cast(pl.String))
        last = len(codes) - 1 - np.unique(codes[::-1], return_index=True)[1]
        parts = [taken(part, last) for part in unpack(changes.values, tuple(k for one in self._layouts for k in one))]
        at = 0
        for accumulator, layout in zip(self._accumulators, self._layouts, strict=True):
            accumulator.decode(codes[last], parts[at : at + len(layout)])
            at += len(layout)
        self._flags.put(codes[last], flags)
