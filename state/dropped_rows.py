"""Lists of dropped rows, while a row log is restored: which of them are within a range of numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .row_chunks import Ints


class Dropped:
    """`lists`: ascending int64 (little endian), by key, each read when it is asked for. Of each its two ends are in memory."""

    def __init__(self, lists: Mapping[bytes, bytes]) -> None:
        self._lists = lists
        self._keys = list(lists)
        ends = [np.frombuffer(lists[key], "<i8")[[0, -1]] for key in self._keys]
        self._ends: Ints = np.array(ends, np.int64).reshape(-1, 2)

    @property
    def largest(self) -> dict[bytes, int]:
        """The last number of each list."""
        return dict(zip(self._keys, self._ends[:, 1].tolist(), strict=True))

    def between(self, first: int, last: int) -> Ints:
        """Both ends included."""
        found = [np.zeros(0, np.int64)]
        for at in np.flatnonzero((self._ends[:, 0] <= last) & (self._ends[:, 1] >= first)).tolist():
            numbers = np.frombuffer(self._lists[self._keys[at]], "<i8")
            found.append(numbers[numbers.searchsorted(first) : numbers.searchsorted(last, "right")])
        return np.concatenate(found)
