"""The smallest or the largest value of a column."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.slots import Accumulator, FixedAccumulator, Slots, Values
from ._objects import ObjectAccumulator
from ._values import number_type, numbers, series_of, texts, without_nulls

Which = Literal["min", "max"]


def extreme(which: Which, column_type: pl.DataType) -> Accumulator:
    """An accumulator of the extreme, for numbers, times and booleans by numpy, for text and bytes by objects."""
    kind = number_type(column_type)
    return _Texts(which, column_type) if kind is None else _Numbers(which, column_type, kind)


class _Numbers(FixedAccumulator):
    """`columns`: the extreme so far, whether there was a value.

    A NaN gives way to any number (as in polars): the result is NaN only where every value was.
    """

    def __init__(self, which: Which, column_type: pl.DataType, kind: np.dtype[Any]) -> None:
        self._type, self._kind = column_type, kind
        self._ufunc = np.fmin if which == "min" else np.fmax
        super().__init__(kind.type(_worst(which, kind)), np.False_)

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "an extreme is of a column"
        slots, values, _ = without_nulls(slots, values, times)
        self._ufunc.at(self.columns[0], slots, numbers(values, self._kind))
        self.columns[1][slots] = True

    def merge(self, into: Slots, source: Slots) -> None:
        self._ufunc.at(self.columns[0], into, self.columns[0][source])
        np.logical_or.at(self.columns[1], into, self.columns[1][source])

    def result(self, slots: Slots) -> pl.Series:
        return series_of(self.columns[0][slots], self._type, self.columns[1][slots])


def _worst(which: Which, kind: np.dtype[Any]) -> Any:
    """What every value beats."""
    if kind.kind == "f":
        return np.nan
    info = np.iinfo(kind)
    return info.max if which == "min" else info.min


class _Texts(ObjectAccumulator):
    """Ordered by UTF-8 bytes, which is by code point."""

    def __init__(self, which: Which, column_type: pl.DataType) -> None:
        super().__init__(column_type)
        self._best = min if which == "min" else max

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "an extreme is of a column"
        slots, values, _ = without_nulls(slots, values, times)
        frame = pl.DataFrame({"slot": slots, "value": texts(values, self.column_type)})
        value = pl.col("value").min() if self._best is min else pl.col("value").max()
        best = frame.group_by("slot").agg(value)
        for slot, text in zip(best["slot"].to_list(), best["value"].to_list(), strict=True):
            self._take(slot, text)

    def merge(self, into: Slots, source: Slots) -> None:
        for slot, other in zip(into.tolist(), source.tolist(), strict=True):
            if self.values[other] is not None:
                self._take(slot, self.values[other])

    def _take(self, slot: int, text: Any) -> None:
        held = self.values[slot]
        self.values[slot] = text if held is None else self._best(held, text)
