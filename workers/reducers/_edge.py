"""The value at one edge of time: of the earliest or of the latest row that has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.slots import Accumulator, FixedAccumulator, Layout, Part, Slots, Values, grown
from ._objects import ObjectAccumulator
from ._values import number_type, numbers, series_of, texts, without_nulls

Edge = Literal["first", "last"]


def edge(which: Edge, column_type: pl.DataType) -> Accumulator:
    kind = number_type(column_type)
    return _Texts(which, column_type) if kind is None else _Numbers(which, column_type, kind)


def _chosen(which: Edge, slots: Slots, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """One row a slot: the first by (time, arrival), or the last."""
    order = np.lexsort((times, slots))  # stable, so ties stay in order of arrival
    borders = np.flatnonzero(np.diff(slots[order]))
    rows: NDArray[np.int64] = order[
        np.append(borders, len(order) - 1) if which == "last" else np.append(0, borders + 1)
    ]
    return rows


def _beats(which: Edge, times: NDArray[np.int64], held: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a row that came later takes the place: on a tie the last to come is last, the first to come stays first."""
    return times >= held if which == "last" else times < held


class _Numbers(FixedAccumulator):
    """`columns`: time, value, whether there is one."""

    def __init__(self, which: Edge, column_type: pl.DataType, kind: np.dtype[Any]) -> None:
        super().__init__(np.int64(0), kind.type(0), np.False_)
        self._which, self._type, self._kind = which, column_type, kind

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "an edge is of a column"
        slots, values, times = without_nulls(slots, values, times)
        self._take(slots, times, numbers(values, self._kind))

    def merge(self, into: Slots, source: Slots) -> None:
        there = self.columns[2][source]
        into, source = into[there], source[there]
        self._take(into, self.columns[0][source], self.columns[1][source])

    def _take(self, slots: Slots, times: NDArray[np.int64], values: NDArray[Any]) -> None:
        if not len(slots):
            return
        rows = _chosen(self._which, slots, times)
        into = slots[rows]
        wins = ~self.columns[2][into] | _beats(self._which, times[rows], self.columns[0][into])
        into, rows = into[wins], rows[wins]
        self.columns[0][into], self.columns[1][into], self.columns[2][into] = times[rows], values[rows], True

    def result(self, slots: Slots) -> pl.Series:
        return series_of(self.columns[1][slots], self._type, self.columns[2][slots])


class _Texts(ObjectAccumulator):
    layout: Layout = (np.dtype(np.int64), None)

    def __init__(self, which: Edge, column_type: pl.DataType) -> None:
        super().__init__(column_type)
        self._which = which
        self._times = np.zeros(0, np.int64)

    def reserve(self, slots: int) -> None:
        super().reserve(slots)
        self._times = grown(self._times, slots, 0)

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "an edge is of a column"
        slots, values, times = without_nulls(slots, values, times)
        if len(slots):
            rows = _chosen(self._which, slots, times)
            self._take(slots[rows], times[rows], texts(values, self.column_type)[rows].to_list())

    def merge(self, into: Slots, source: Slots) -> None:
        self._take(into, self._times[source], self.values[source].tolist())

    def _take(self, slots: Slots, times: NDArray[np.int64], values: Sequence[Any]) -> None:
        for slot, time, value in zip(slots.tolist(), times.tolist(), values, strict=True):
            held = self._times[slot]
            wins = time >= held if self._which == "last" else time < held
            if value is not None and (wins or self.values[slot] is None):
                self.values[slot], self._times[slot] = value, time

    def encode(self, slots: Slots) -> list[Part]:
        return [np.where(self.values[slots] != None, self._times[slots], 0), *super().encode(slots)]  # noqa: E711

    def decode(self, slots: Slots, parts: Sequence[Part]) -> None:
        self._times[slots] = parts[0]
        super().decode(slots, parts[1:])
