"""Number, mean and sum of squared deviations of values, kept so that they can be merged without losing digits.

Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979). Parts i with
n_i, mean_i, M2_i make

    mean = r + sum(n_i * (mean_i - r)) / n             r: any mean near them, here that of what was held
    M2   = sum(M2_i) + sum(n_i * (mean_i - mean)**2)   (a row is a part with n = 1, M2 = 0)

All terms of M2 are positive, so nothing cancels; the textbook's `sum(x**2) - n * mean**2` loses everything for values that are
large and close together. Integers beyond 2**53 are rounded to floats.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.slots import FixedAccumulator, Slots, Values
from ..errors import PlanError
from ._values import floats, series_of, without_nulls

_Floats = NDArray[np.float64]


class Moments(FixedAccumulator):
    """`columns`: number of values, mean, M2. `ddof`: what is taken off the number to divide by."""

    def __init__(self, ddof: int) -> None:
        super().__init__(np.int64(0), np.float64(0), np.float64(0))
        self._ddof = ddof

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "a variance is of a column"
        slots, values, _ = without_nulls(slots, values, times)
        self._take(slots, np.ones(len(slots), np.int64), floats(values), np.zeros(len(slots)))

    def merge(self, into: Slots, source: Slots) -> None:
        there = self.columns[0][source] > 0
        into, source = into[there], source[there]
        self._take(into, *(column[source] for column in self.columns))

    def _take(self, slots: Slots, counts: NDArray[np.int64], means: _Floats, squares: _Floats) -> None:
        """Parts, each to its slot; a slot may get many."""
        if not len(slots):
            return
        targets, first, part = np.unique(slots, return_index=True, return_inverse=True)
        held = self.columns[0][targets]
        near = np.where(held > 0, self.columns[1][targets], means[first])
        total = held + np.bincount(part, counts).astype(np.int64)
        with np.errstate(invalid="ignore", over="ignore"):
            mean = near + np.bincount(part, counts * (means - near[part])) / total
            spread = np.where(held > 0, held * (near - mean) ** 2, 0.0)
            spread += np.bincount(part, squares + counts * (means - mean[part]) ** 2)
        self.columns[0][targets], self.columns[1][targets] = total, mean
        self.columns[2][targets] += spread

    def variances(self, slots: Slots) -> tuple[_Floats, NDArray[np.bool_]]:
        """The variances, and where there are enough values for one."""
        divisor = self.columns[0][slots] - self._ddof
        return self.columns[2][slots] / np.maximum(divisor, 1), divisor > 0

    def result(self, slots: Slots) -> pl.Series:
        variances, present = self.variances(slots)
        return series_of(variances, pl.Float64(), present)


def checked_ddof(reducer: str, ddof: object) -> None:
    if ddof not in (0, 1) or isinstance(ddof, bool | float):
        raise PlanError(f"{reducer} takes ddof=1 (of a sample) or ddof=0 (of a population), got ddof={ddof!r}")
