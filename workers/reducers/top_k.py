"""The largest values of a column, as a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ...state.slots import Accumulator, Layout, Part, Slots, Values, grown
from ..reducer import checked_column
from ._packing import pack_values, unpack_values
from ._values import array_of, checked_between, checked_scalar, empty_array, lists_of, order_key, without_nulls

K_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class TopK:
    """`top_k("price", 3)`: the three largest values, descending, as often as they came; fewer where there were fewer.

    Of the column's own type. Nulls are skipped, NaN comes behind all numbers, text and bytes go by bytes. `k`: 1 to `K_MAX`.
    The largest different ones are the end of `collect_set`; the row of the largest one is `argmax`. State: `k` values a key and
    window.
    """

    name: ClassVar[str] = "top_k"
    column: str
    k: int

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)
        checked_between("top_k(price, 3)", "k", self.k, 1, K_MAX)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        return pl.List(checked_scalar(self.name, column_type))

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return _Largest(self.k, checked_scalar(self.name, column_type))


class _Largest:
    """`_cells[slot, i]`: the i-th largest, for `i < _sizes[slot]`."""

    layout: Layout = (None,)

    def __init__(self, k: int, column_type: pl.DataType) -> None:
        self._k, self._type = k, column_type
        self._cells = empty_array((0, k), column_type)
        self._sizes = np.zeros(0, np.int64)

    def reserve(self, slots: int) -> None:
        if slots > len(self._sizes):
            self._sizes, held = grown(self._sizes, slots, 0), self._cells
            self._cells = empty_array((len(self._sizes), self._k), self._type)
            self._cells[: len(held)] = held

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "the largest values are of a column"
        slots, values, _ = without_nulls(slots, values, times)
        self._take(slots, array_of(values, self._type))

    def merge(self, into: Slots, source: Slots) -> None:
        sizes, values = self._held(source)
        self._take(np.repeat(into, sizes), values)

    def _held(self, slots: Slots) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """How many each slot holds, and what, one after the other."""
        sizes = self._sizes[slots]
        return sizes, self._cells[slots][np.arange(self._k) < sizes[:, None]]

    def _take(self, slots: Slots, values: NDArray[Any]) -> None:
        if not len(slots):
            return
        touched = np.unique(slots)
        sizes, held = self._held(touched)
        slots, values = np.concatenate([np.repeat(touched, sizes), slots]), np.concatenate([held, values])
        order = np.lexsort((order_key(values, self._type, largest_first=True), slots))
        slots, values = slots[order], values[order]
        starts = np.searchsorted(slots, touched)
        counts = np.diff(np.append(starts, len(slots)))
        place = np.arange(len(slots)) - np.repeat(starts, counts)
        kept = place < self._k
        self._cells[slots[kept], place[kept]] = values[kept]
        self._sizes[touched] = np.minimum(counts, self._k)

    def clear(self, slots: Slots) -> None:
        self._sizes[slots] = 0
        self._cells[slots] = None if self._cells.dtype == object else 0

    def _lists(self, slots: Slots) -> list[list[Any]]:
        sizes, rows = self._sizes[slots].tolist(), self._cells[slots].tolist()
        return [row[:size] for size, row in zip(sizes, rows, strict=True)]

    def result(self, slots: Slots) -> pl.Series:
        return lists_of(self._lists(slots), self._type)

    def unfit(self, slots: Slots) -> NDArray[np.bool_] | None:
        return None

    def encode(self, slots: Slots) -> list[Part]:
        return [pa.array([pack_values(row, self._type) for row in self._lists(slots)], pa.large_binary())]

    def decode(self, slots: Slots, parts: Sequence[Part]) -> None:
        assert not isinstance(parts[0], np.ndarray), "lists are encoded as bytes"
        self.clear(slots)
        for slot, data in zip(slots.tolist(), parts[0].to_pylist(), strict=True):
            values = unpack_values(data or b"", self._type)
            self._cells[slot, : len(values)] = values
            self._sizes[slot] = len(values)

    @property
    def size_bytes(self) -> int:
        """An estimate: 64 bytes an object."""
        objects = (self._cells.dtype == object) * 64 * int(self._sizes.sum())
        return self._sizes.nbytes + self._cells.nbytes + objects
