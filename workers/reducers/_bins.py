"""Counts of bins of many slots, as one sorted column: memory goes with the bins that are there, and every step is numpy's.

    code     slot << 32 | (key + 2**31)        so the bins of a slot lie side by side, ascending by key
    counts   beside the codes

Bins that are there are counted up in place; for new ones the columns are copied, which becomes rare once a slot has seen values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...state.slots import Slots

_Ints = NDArray[np.int64]
_SHIFT = 32
_ZERO = 1 << 31


class Bins:
    """A slot has at most `bins_max` bins: those with the highest keys, the lowest of which counts what is below it too.

    Whatever the order of `add`s and of merges, the same bins come out.
    """

    def __init__(self, bins_max: int) -> None:
        self._bins_max = bins_max
        self._codes: _Ints = np.zeros(0, np.int64)
        self._counts: _Ints = np.zeros(0, np.int64)

    def add(self, slots: Slots, keys: _Ints, counts: _Ints) -> None:
        """`counts[i]` more in the bin `keys[i]` of `slots[i]`; a bin may occur many times."""
        if not len(slots):
            return
        codes, place = np.unique((slots.astype(np.int64) << _SHIFT) + (keys + _ZERO), return_inverse=True)
        added = np.zeros(len(codes), np.int64)
        np.add.at(added, place, counts)
        at = np.asarray(np.searchsorted(self._codes, codes))
        known = np.append(self._codes, -1)[at] == codes
        self._counts[at[known]] += added[known]
        if not known.all():
            self._codes = np.insert(self._codes, at[~known], codes[~known])
            self._counts = np.insert(self._counts, at[~known], added[~known])
            self._collapse(np.unique(codes[~known] >> _SHIFT))

    def _collapse(self, slots: Slots) -> None:
        """Puts the lowest bins together where there are too many."""
        starts, stops = self._ranges(slots)
        full = stops - starts > self._bins_max
        for start, stop in zip(starts[full][::-1].tolist(), stops[full][::-1].tolist(), strict=True):
            lowest = stop - self._bins_max
            self._counts[lowest] += self._counts[start:lowest].sum()
            self._codes = np.delete(self._codes, slice(start, lowest))
            self._counts = np.delete(self._counts, slice(start, lowest))

    def _ranges(self, slots: Slots) -> tuple[_Ints, _Ints]:
        """Where the bins of each slot begin and end."""
        first = np.asarray(slots, np.int64) << _SHIFT
        return np.searchsorted(self._codes, first), np.searchsorted(self._codes, first + (1 << _SHIFT))

    def of(self, slots: Slots) -> tuple[_Ints, _Ints, _Ints]:
        """How many bins each slot has; their keys and counts, one slot behind the other."""
        starts, stops = self._ranges(slots)
        sizes = stops - starts
        index = np.arange(int(sizes.sum())) + np.repeat(starts - np.append(0, np.cumsum(sizes)[:-1]), sizes)
        return sizes, (self._codes[index] & ((1 << _SHIFT) - 1)) - _ZERO, self._counts[index]

    def at(self, slots: Slots, q: float) -> tuple[_Ints, NDArray[np.bool_]]:
        """The key of the bin with the value at position `floor(q * (n - 1))` of each slot; and whether the slot has any."""
        starts, stops = self._ranges(slots)
        below = np.append(0, np.cumsum(self._counts))
        totals = below[stops] - below[starts]
        present = totals > 0
        position = below[starts] + np.floor(q * np.maximum(totals - 1, 0)).astype(np.int64)
        index = np.searchsorted(below, position, side="right") - 1
        codes = np.append(self._codes, _ZERO)[np.where(present, index, len(self._codes))]
        return (codes & ((1 << _SHIFT) - 1)) - _ZERO, present

    def clear(self, slots: Slots) -> None:
        sizes, _, _ = self.of(slots)
        if sizes.any():
            kept = ~np.isin(self._codes >> _SHIFT, np.asarray(slots, np.int64))
            self._codes, self._counts = self._codes[kept], self._counts[kept]

    @property
    def size_bytes(self) -> int:
        return self._codes.nbytes + self._counts.nbytes
