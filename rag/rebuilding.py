"""Builds another structure over rows that go on changing: in a thread, in rounds, swapped in when hardly anything is missing.

    round 1    every number that is there                                       thread
    round n    what was touched during the round before                         thread
    end        at most 16 touched (or the twentieth round): those, and done     event loop

A round takes as long as what it adds, so with 200 updates a second and 0.75 ms an addition each is a seventh of the one before:
the loop, in which questions wait, is left with a few milliseconds of work whatever the size. The thread reads the rows without a
lock and without a copy of them: a number that changes under it is touched, and comes again in the next round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from .index import Numbers, Vectors
from .rows import Rows

_ADDED_MAX: Final = 256
"""Vectors added in one call."""
_LEFT_MAX: Final = 16
_ROUNDS_MAX: Final = 20


class Building:
    """`add` and `remove` are those of the new structure. `run` is for a thread, the rest for the loop between two runs."""

    def __init__(self, rows: Rows, add: Callable[[Numbers, Vectors], None], remove: Callable[[Numbers], None]) -> None:
        self._rows = rows
        self._add = add
        self._remove = remove
        self._round = rows.numbers()
        self._rounds = 1
        self._touched: set[int] = set()
        self.replaced = 0
        """Numbers that were built more than once."""

    def touch(self, numbers: Numbers) -> None:
        """These have changed."""
        self._touched.update(numbers.tolist())

    def run(self) -> None:
        """One round. Again before `finish`, there is nothing to do."""
        for start in range(0, len(self._round), _ADDED_MAX):
            self._build(self._round[start : start + _ADDED_MAX])
        self._round = self._round[:0]

    def finish(self) -> bool:
        """False: much has changed meanwhile, and `run` is to be called again."""
        self._round = np.array(sorted(self._touched), np.int64)
        self._touched = set()
        self.replaced += len(self._round)
        if len(self._round) > _LEFT_MAX and self._rounds < _ROUNDS_MAX:
            self._rounds += 1
            return False
        self._build(self._round)
        return True

    def _build(self, numbers: Numbers) -> None:
        if self._rounds > 1 or self.replaced:
            self._remove(numbers)
        there = numbers[self._rows.taken[numbers]]
        if len(there):
            self._add(there, self._rows.get(there))
