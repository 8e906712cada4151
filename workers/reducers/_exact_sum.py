"""Sums of 64-bit integers that are exact whatever they come to, in any order: `high * 2**32 + low`.

The usual way is one addition a row into `low`; a bound on what it can have come to says when a carry into `high` is due.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...state.slots import FixedAccumulator, Part, Slots, Values
from ._values import numbers, without_nulls

_BITS: Final = 32
_MASK: Final = (1 << _BITS) - 1
_LIMIT: Final = 1 << 63
_INT64: Final = np.dtype(np.int64)


class ExactSum(FixedAccumulator):
    """`columns`: low, high, number of values."""

    def __init__(self) -> None:
        super().__init__(np.int64(0), np.int64(0), np.int64(0))
        self._low_most = 0  # no |low| is above it

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "a sum is of a column"
        slots, values, _ = without_nulls(slots, values, times)
        if not len(values):
            return
        added = numbers(values, _INT64)
        most = max(abs(int(added.min())), abs(int(added.max()))) * len(added)
        np.add.at(self.columns[2], slots, 1)
        if self._low_most + most < _LIMIT:
            np.add.at(self.columns[0], slots, added)
            self._low_most += most
            return
        self._carry()
        np.add.at(self.columns[0], slots, added & _MASK)
        np.add.at(self.columns[1], slots, added >> _BITS)
        self._low_most += _MASK * len(added)

    def _carry(self) -> None:
        low, high = self.columns[0], self.columns[1]
        high += low >> _BITS
        low &= _MASK
        self._low_most = _MASK

    def merge(self, into: Slots, source: Slots) -> None:
        self._carry()
        for column in self.columns:
            np.add.at(column, into, column[source])
        self._low_most += _MASK * len(into)

    def decode(self, slots: Slots, parts: Sequence[Part]) -> None:
        super().decode(slots, parts)
        if len(slots):
            low = np.asarray(parts[0])
            self._low_most = max(self._low_most, abs(int(low.min())), abs(int(low.max())))

    def totals(self, slots: Slots) -> tuple[NDArray[Any], NDArray[Any]]:
        """The upper half and the lower half (32 bits, not negative) of each sum."""
        low, high = self.columns[0][slots], self.columns[1][slots]
        return high + (low >> _BITS), low & _MASK

    def means(self, slots: Slots) -> NDArray[np.float64]:
        """NaN where there was no value."""
        high, low = self.totals(slots)
        with np.errstate(invalid="ignore"):
            means: NDArray[np.float64] = (high * float(1 << _BITS) + low) / self.columns[2][slots]
        return means
