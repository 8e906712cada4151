"""The value of one column in the row where another one is smallest or largest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ...state.slots import Layout, Part, Slots, Values, grown
from ..reducer import refused_type
from ._values import array_of, checked_scalar, empty_array, number_type, order_key, series_of

Which = Literal["argmin", "argmax"]
_Times = NDArray[np.int64]


def checked_pair(reducer: str, column_type: pl.DataType | None) -> tuple[pl.DataType, pl.DataType]:
    """The types of the value and of what it is chosen by. Raises PlanError where one is no scalar."""
    if not isinstance(column_type, pl.Struct):
        raise refused_type(reducer, column_type, "two columns")
    value, by = (cast(pl.DataType, field.dtype) for field in column_type.fields)
    return checked_scalar(reducer, value), checked_scalar(reducer, by)


class RowAt:
    """A slot's row: its time, `by`, the value. Rows are compared with what is held as if that were the first of them."""

    def __init__(self, which: Which, value_type: pl.DataType, by_type: pl.DataType) -> None:
        self._which = which
        self._types = (by_type, value_type)
        self._there = np.zeros(0, np.bool_)
        self._times = np.zeros(0, np.int64)
        self._cells = [empty_array(0, column_type) for column_type in self._types]
        kinds = (number_type(column_type) for column_type in self._types)
        self.layout: Layout = (np.dtype(np.bool_), np.dtype(np.int64), *kinds)

    def reserve(self, slots: int) -> None:
        self._there, self._times = grown(self._there, slots, fill=False), grown(self._times, slots, 0)
        self._cells = [grown(cells, slots, None if cells.dtype == object else 0) for cells in self._cells]

    def add(self, slots: Slots, values: Values | None, times: _Times) -> None:
        assert isinstance(values, pl.Series), "a pair is one column of structs"
        pair = [values.struct.field("by"), values.struct.field("value")]
        present = pair[0].is_not_null() & pair[1].is_not_null()
        if not present.all():
            rows = present.to_numpy()
            slots, times, pair = slots[rows], times[rows], [column.filter(present) for column in pair]
        self._take(slots, times, [array_of(*one) for one in zip(pair, self._types, strict=True)])

    def merge(self, into: Slots, source: Slots) -> None:
        there = self._there[source]
        into, source = into[there], source[there]
        self._take(into, self._times[source], [cells[source] for cells in self._cells])

    def _take(self, slots: Slots, times: _Times, rows: Sequence[NDArray[Any]]) -> None:
        if not len(slots):
            return
        held = np.unique(slots)
        held = held[self._there[held]]
        slots, times = np.concatenate([held, slots]), np.concatenate([self._times[held], times])
        rows = [np.concatenate([cells[held], column]) for cells, column in zip(self._cells, rows, strict=True)]
        keys = order_key(rows[0], self._types[0], largest_first=self._which == "argmax")
        order = np.lexsort((times, keys, slots))  # stable, so ties stay in order of arrival
        in_order = slots[order]
        best = order[np.append(True, in_order[1:] != in_order[:-1])]
        into = slots[best]
        self._there[into], self._times[into] = True, times[best]
        for cells, column in zip(self._cells, rows, strict=True):
            cells[into] = column[best]

    def clear(self, slots: Slots) -> None:
        self._there[slots], self._times[slots] = False, 0
        for cells in self._cells:
            cells[slots] = None if cells.dtype == object else 0

    def result(self, slots: Slots) -> pl.Series:
        cells, value_type = self._cells[1][slots], self._types[1]
        if cells.dtype == object:
            return pl.Series(cells.tolist(), dtype=value_type)
        return series_of(cells, value_type, self._there[slots])

    def unfit(self, slots: Slots) -> NDArray[np.bool_] | None:
        return None

    def encode(self, slots: Slots) -> list[Part]:
        return [self._there[slots], self._times[slots], *(_encoded(cells[slots]) for cells in self._cells)]

    def decode(self, slots: Slots, parts: Sequence[Part]) -> None:
        there = np.asarray(parts[0], np.bool_)
        self._there[slots], self._times[slots] = there, parts[1]
        for cells, column_type, part in zip(self._cells, self._types, parts[2:], strict=True):
            cells[slots] = part if isinstance(part, np.ndarray) else _decoded(part, there, column_type)

    @property
    def size_bytes(self) -> int:
        """An estimate: 64 bytes an object."""
        own = self._there.nbytes + self._times.nbytes
        return own + sum(cells.nbytes + (cells.dtype == object) * 64 * len(cells) for cells in self._cells)


def _encoded(cells: NDArray[Any]) -> Part:
    if cells.dtype != object:
        return cells
    encoded = [value.encode() if isinstance(value, str) else value or b"" for value in cells.tolist()]
    return pa.array(encoded, pa.large_binary())


def _decoded(part: pa.LargeBinaryArray, there: NDArray[np.bool_], column_type: pl.DataType) -> NDArray[np.object_]:
    is_bytes = isinstance(column_type, pl.Binary)
    cells = np.full(len(there), None, object)
    for row in np.flatnonzero(there).tolist():
        data = part[row].as_py() or b""
        cells[row] = data if is_bytes else data.decode()
    return cells
