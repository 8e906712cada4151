"""A quantile of a column of numbers, within a promised relative error: DDSketch.

Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019
(arXiv:1908.10693). Values are counted in bins whose borders grow by the factor g = (1 + e) / (1 - e), so every value of a bin is
within e, relative, of one number in it. Negative values have bins of their own, and so has zero.

    bin of x > 0      i = ceil(log(x) / log(g)), for g**(i-1) < x <= g**i; it stands for 2 * g**i / (g + 1)
    key of a bin      i + shift > 0 for positive values, -(i + shift) for negative ones, 0 for zero: keys sort as values do
    state             keys (4 bytes each), then counts (8 bytes each), of the bins that are not empty, ascending

Chosen over t-digest and KLL as its bound holds for every input, and as its state does not depend on the order of arrival: what is
added is what is merged, and a replay gives the same bytes. (t-digest promises no bound; KLL's is in ranks, and it flips coins.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ...state.slots import Accumulator, Layout, Part, Slots, Values
from ..reducer import checked_column
from ._bins import Bins
from ._values import checked_between, checked_number, floats, series_of, without_nulls

RELATIVE_ERROR_MIN: Final = 0.0001
RELATIVE_ERROR_MAX: Final = 0.5
BINS_MAX: Final = 1 << 20
_LOG_SMALLEST: Final = -744.5  # of the smallest float above zero, 5e-324
_LOG_LARGEST: Final = 709.8  # of the largest, 1.8e308


@dataclass(frozen=True, slots=True)
class Quantile:
    """`quantile("price", 0.95)`: Float64, a value within `relative_error` of the exact one; null where there was no value.

    The exact one is that at position `floor(q * (n - 1))` of the n values in ascending order, from 0: the lower median for 0.5.
    `|result - exact| <= relative_error * |exact|`, for positive and negative values, and whatever their distribution. Zero is
    exact, infinities too; nulls and NaN are skipped. Integers beyond 2**53 are rounded to floats.

    The bound holds as long as a key and window has at most `bins_max` different bins, which for positive values at the default
    error of 1 % is a range of largest to smallest of 10**17. Beyond, the lowest bins are put together, and low quantiles come out
    too large. State: 16 bytes a bin. The result is the same for every order of arrival.
    """

    name: ClassVar[str] = "quantile"
    column: str
    q: float
    relative_error: float = 0.01
    bins_max: int = 2_048

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)
        checked_between("quantile(price, 0.95)", "q", self.q, 0.0, 1.0)
        call = "quantile(price, 0.95, relative_error=0.01)"
        checked_between(call, "relative_error", self.relative_error, RELATIVE_ERROR_MIN, RELATIVE_ERROR_MAX)
        checked_between("quantile(price, 0.95, bins_max=2048)", "bins_max", self.bins_max, 1, BINS_MAX)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        checked_number(self.name, column_type)
        return pl.Float64()

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return _Sketch(self.q, self.relative_error, self.bins_max)


class _Keys:
    """Values to keys of bins and back."""

    def __init__(self, relative_error: float) -> None:
        self._factor = (1 + relative_error) / (1 - relative_error)
        self._log = log(self._factor)
        self._shift = ceil(-_LOG_SMALLEST / self._log) + 1
        self._infinite = self._shift + ceil(_LOG_LARGEST / self._log) + 1

    def of(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Of numbers, not NaN."""
        sizes = np.abs(values)
        with np.errstate(divide="ignore"):
            logs = np.log(sizes) / self._log
        inside = np.isfinite(logs)
        index = np.ceil(np.where(inside, logs, 0)).astype(np.int64) + self._shift
        keys = np.where(inside, index, np.where(sizes == 0, 0, self._infinite))
        return np.where(values < 0, -keys, keys)

    def values(self, keys: NDArray[np.int64]) -> NDArray[np.float64]:
        index = np.abs(keys)
        with np.errstate(over="ignore"):
            sizes = np.exp((index - self._shift) * self._log + log(2 / (self._factor + 1)))
        sizes = np.where(
            index == self._infinite, np.inf, np.where(index == 0, 0, np.minimum(sizes, np.finfo("f8").max))
        )
        return np.sign(keys) * np.where(keys == 0, 0.0, sizes)


class _Sketch:
    layout: Layout = (None,)

    def __init__(self, q: float, relative_error: float, bins_max: int) -> None:
        self._q, self._keys, self._bins = q, _Keys(relative_error), Bins(bins_max)

    def reserve(self, slots: int) -> None:
        """Slots take room only once they have values."""

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "a quantile is of a column"
        slots, values, _ = without_nulls(slots, values, times)
        array = floats(values)
        numbers = ~np.isnan(array)
        self._bins.add(slots[numbers], self._keys.of(array[numbers]), np.ones(int(numbers.sum()), np.int64))

    def merge(self, into: Slots, source: Slots) -> None:
        sizes, keys, counts = self._bins.of(source)
        self._bins.add(np.repeat(into, sizes), keys, counts)

    def clear(self, slots: Slots) -> None:
        self._bins.clear(slots)

    def result(self, slots: Slots) -> pl.Series:
        keys, present = self._bins.at(slots, self._q)
        return series_of(self._keys.values(keys), pl.Float64(), present)

    def unfit(self, slots: Slots) -> NDArray[np.bool_] | None:
        return None

    def encode(self, slots: Slots) -> list[Part]:
        sizes, keys, counts = self._bins.of(slots)
        cuts = np.cumsum(sizes)[:-1]
        rows = zip(np.split(keys.astype("<i4"), cuts), np.split(counts.astype("<i8"), cuts), strict=True)
        encoded: list[bytes] = [of_keys.tobytes() + of_counts.tobytes() for of_keys, of_counts in rows]
        return [pa.array(encoded[: len(slots)], pa.large_binary())]

    def decode(self, slots: Slots, parts: Sequence[Part]) -> None:
        assert not isinstance(parts[0], np.ndarray), "bins are encoded as bytes"
        rows: list[bytes] = [data or b"" for data in parts[0].to_pylist()]
        sizes = [len(data) // 12 for data in rows]
        keys: list[Any] = [np.frombuffer(data, "<i4", size) for data, size in zip(rows, sizes, strict=True)]
        counts: list[Any] = [np.frombuffer(data, "<i8", size, 4 * size) for data, size in zip(rows, sizes, strict=True)]
        self._bins.clear(slots)
        if rows:
            self._bins.add(np.repeat(slots, sizes), np.concatenate(keys).astype(np.int64), np.concatenate(counts))

    @property
    def size_bytes(self) -> int:
        return self._bins.size_bytes
