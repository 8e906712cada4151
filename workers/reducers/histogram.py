"""How many values fall between fixed edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.slots import Accumulator, Slots, Values
from ..errors import PlanError
from ..reducer import checked_column
from ._matrix import MatrixAccumulator
from ._values import checked_number, floats, without_nulls

EDGES_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Histogram:
    """`histogram("price", [0, 10, 100])`: a list of counts, Int64, one more than there are edges.

    The first counts values below the first edge, the last those at or above the last edge; in between `edge <= value < next
    edge`, as windows are cut. Nulls and NaN are in none. Edges are finite and ascending, at most `EDGES_MAX`. Values are compared
    as floats: integers beyond 2**53 are rounded. State: 8 bytes a count, key and window.
    """

    name: ClassVar[str] = "histogram"
    column: str
    edges: Sequence[float]

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)
        object.__setattr__(self, "edges", _checked_edges(self.edges))

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        checked_number(self.name, column_type)
        return pl.List(pl.Int64())

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return _Counts(np.array(self.edges, np.float64))


def _checked_edges(edges: object) -> tuple[float, ...]:
    found = tuple(edges) if isinstance(edges, list | tuple) else ()
    numbers = all(isinstance(edge, int | float) and math.isfinite(edge) for edge in found)
    if not found or not numbers or any(low >= high for low, high in pairwise(found)):
        raise PlanError(f"histogram takes ascending edges, as in histogram(price, [0, 10, 100]), got {edges!r}")
    if len(found) > EDGES_MAX:
        raise PlanError(
            f"histogram takes at most {EDGES_MAX} edges, got {len(found)}; use quantile for a finer picture"
        )
    return found


class _Counts(MatrixAccumulator):
    """`cells`: the counts."""

    def __init__(self, edges: NDArray[np.float64]) -> None:
        super().__init__(len(edges) + 1, np.dtype(np.int64))
        self._edges = edges

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "a histogram is of a column"
        slots, values, _ = without_nulls(slots, values, times)
        array = floats(values)
        buckets = np.searchsorted(self._edges, array, side="right")
        np.add.at(self.flat, self.places(slots, buckets)[~np.isnan(array)], 1)

    def merge(self, into: Slots, source: Slots) -> None:
        np.add.at(self.cells, into, self.cells[source])

    def result(self, slots: Slots) -> pl.Series:
        return pl.Series(self.cells[slots].tolist(), dtype=pl.List(pl.Int64))
