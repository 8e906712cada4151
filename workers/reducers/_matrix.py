"""An accumulator that keeps a row of numbers a slot, all rows of one width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.slots import Layout, Part, Slots, fixed_bytes, grown


class MatrixAccumulator:
    """`cells[slot, i]`, the same as `flat[slot * width + i]`: zeros before the first value. Subclasses add, merge, give results."""

    layout: Layout = (None,)

    def __init__(self, width: int, kind: np.dtype[Any]) -> None:
        self.width = width
        self.flat: NDArray[Any] = np.zeros(0, kind)

    @property
    def cells(self) -> NDArray[Any]:
        """A view: what is written to it is kept."""
        return self.flat[: len(self.flat) // self.width * self.width].reshape(-1, self.width)

    def reserve(self, slots: int) -> None:
        self.flat = grown(self.flat, slots * self.width, 0)

    def places(self, slots: Slots, cells: NDArray[Any]) -> NDArray[np.int64]:
        """Where in `flat` the cell `cells[i]` of `slots[i]` is."""
        places: NDArray[np.int64] = np.asarray(slots, np.int64) * self.width + cells
        return places

    def clear(self, slots: Slots) -> None:
        self.cells[slots] = 0

    def result(self, slots: Slots) -> pl.Series:
        raise NotImplementedError

    def unfit(self, slots: Slots) -> NDArray[np.bool_] | None:
        return None

    def encode(self, slots: Slots) -> list[Part]:
        rows = np.ascontiguousarray(self.cells[slots], self.flat.dtype.newbyteorder("<"))
        row_bytes = np.dtype((np.void, self.width * self.flat.itemsize))
        return [fixed_bytes([np.frombuffer(rows.tobytes(), row_bytes)])]

    def decode(self, slots: Slots, parts: Sequence[Part]) -> None:
        kind = self.flat.dtype.newbyteorder("<")
        assert not isinstance(parts[0], np.ndarray), "rows are encoded as bytes"
        self.cells[slots] = np.frombuffer(b"".join(data or b"" for data in parts[0].to_pylist()), kind).reshape(
            -1, self.width
        )

    @property
    def size_bytes(self) -> int:
        return self.flat.nbytes
