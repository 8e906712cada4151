"""A matrix whose row is the number: vectors with room to grow, and a bitmap of the rows that are taken."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .index import Bitmap, Numbers, Vector, Vectors

_ROWS_AT_FIRST: Final = 256
_BLOCK_ROWS: Final = 4_096
"""Rows turned into float32 at a time, where they are stored in less: the block stays in the cache."""


class Rows:
    """`dtype`: float32 for exact search, float16 where a graph does the searching and this is for filters and scores."""

    def __init__(self, dimensions: int, dtype: type[np.float32] | type[np.float16] = np.float32) -> None:
        self._data: NDArray[Any] = np.zeros((_ROWS_AT_FIRST, dimensions), dtype)
        self._taken = np.zeros(_ROWS_AT_FIRST, np.bool_)
        self._end = 0
        self.count = 0

    @property
    def taken(self) -> Bitmap:
        """Up to the largest number that was ever there."""
        return self._taken[: self._end]

    def put(self, numbers: Numbers, vectors: Vectors) -> None:
        if not len(numbers):
            return
        self._grow(int(numbers.max()) + 1)
        self._data[numbers] = vectors
        self.count += int(len(numbers) - self._taken[numbers].sum())
        self._taken[numbers] = True

    def drop(self, numbers: Numbers) -> Numbers:
        """Those that were there."""
        there = numbers[numbers < self._end]
        there = np.unique(there[self._taken[there]])
        self._taken[there] = False
        self.count -= len(there)
        return there

    def numbers(self, allowed: Bitmap | None = None) -> Numbers:
        """Those taken, and allowed."""
        if allowed is None:
            return np.flatnonzero(self.taken)
        end = min(self._end, len(allowed))
        return np.flatnonzero(self._taken[:end] & allowed[:end])

    def get(self, numbers: Numbers) -> Vectors:
        return self._data[numbers].astype(np.float32)

    def similarities(self, vector: Vector, numbers: Numbers) -> Vector:
        if self._data.dtype == np.float32:
            if len(numbers) * 2 > self._end:
                return np.asarray((self._data[: self._end] @ vector)[numbers], np.float32)
            return np.asarray(self._data[numbers] @ vector, np.float32)
        starts = range(0, len(numbers), _BLOCK_ROWS)
        blocks = [self.get(numbers[start : start + _BLOCK_ROWS]) @ vector for start in starts]
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)

    def _grow(self, end: int) -> None:
        if end > len(self._data):
            rows = max(end, 2 * len(self._data))
            data = np.zeros((rows, self._data.shape[1]), self._data.dtype)
            data[: self._end] = self._data[: self._end]
            taken = np.zeros(rows, np.bool_)
            taken[: self._end] = self.taken
            self._data, self._taken = data, taken
        self._end = max(self._end, end)
