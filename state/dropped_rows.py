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
        self.known: dict[bytes, tuple[int, int]] = {}
        """The last number of each list, and how many are in it."""
        firsts = []
        for key in self._keys:
            numbers = np.frombuffer(lists[key], "<i8")
            firsts.append(int(numbers[0]))
            self.known[key] = int(numbers[-1]), len(numbers)
        self._firsts: Ints = np.array(firsts, np.int64)
        self._lasts: Ints = np.array([last for last, _ in self.known.values()], np.int64)

    def between(self, first: int, last: int) -> Ints:
        """Both ends included."""
        found = [np.zeros(0, np.int64)]
        for at in np.flatnonzero((self._firsts <= last) & (self._lasts >= first)).tolist():
            numbers = np.frombuffer(self._lists[self._keys[at]], "<i8")
            found.append(numbers[numbers.searchsorted(first) : numbers.searchsorted(last, "right")])
        return np.concatenate(found)
