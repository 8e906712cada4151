"""usearch's graph over numbers whose vectors are replaced: what went is passed over at once, and taken out a batch at a time.

The first addition after a removal makes usearch (2.26) build its table of keys anew, all of it (`rehash_into`): 1.6 ms at 100,000
keys, twice what the addition itself takes. So a vector's key in the graph is its number and how often that number was taken out
before; keys of vectors that went stay in the graph until there are `_GONE_MAX`, and whoever searches asks for so many more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import IndexDamagedError
from .index import Bitmap, Numbers, Vector, Vectors
from .native import usearch_index

_GONE_MAX: Final = 64
_TURN_SHIFT: Final = np.uint64(40)
_NUMBER_MASK: Final = np.uint64((1 << 40) - 1)
_TURN_MASK: Final = np.uint64((1 << 24) - 1)

Keys = NDArray[np.uint64]


class VectorGraph:
    """`options`: those of `usearch.index.Index`. Vectors are added by one thread: with two, some are never found (usearch #735)."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._graph: Any = usearch_index()(**options)
        self._expansion: int = options["expansion_search"]
        self._turns: Keys = np.zeros(0, np.uint64)
        """By number: the turn of its vector that is there, or of its next one."""
        self._gone: list[int] = []
        """Keys in the graph of vectors that are not there any more."""

    def add(self, numbers: Numbers, vectors: Vectors) -> None:
        """None of the numbers is there."""
        self._reserve(numbers)
        self._graph.add(self._keys(numbers), vectors, threads=1)

    def remove(self, numbers: Numbers) -> None:
        """Numbers that were never there do no harm."""
        self._reserve(numbers)
        self._gone += self._keys(numbers).tolist()
        self._turns[numbers] = (self._turns[numbers] + np.uint64(1)) & _TURN_MASK
        if len(self._gone) >= _GONE_MAX:
            self._take_out()

    def nearest(self, vector: Vector, k: int) -> Numbers:
        """At least `k`, where there are so many: the graph orders by rounded vectors, so some more are for the caller to order."""
        gone = len(self._gone)
        fetch = min(max(k + gone, min(2 * k + gone, self._expansion)), len(self._graph))
        self._graph.expansion_search = max(self._expansion, fetch)
        keys = np.asarray(self._graph.search(vector, fetch, threads=1).keys).astype(np.uint64)
        numbers = (keys & _NUMBER_MASK).astype(np.int64)
        is_there: Bitmap = self._turns[numbers] == keys >> _TURN_SHIFT
        return numbers[is_there]

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        self._take_out()
        aside = path.with_name(path.name + ".new")
        self._graph.save(str(aside))
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.rename(path)

    def load(self, path: Path, numbers: Numbers) -> None:
        """Into a graph that is empty. Raises IndexDamagedError where it is not one of these numbers; then it is of no use."""
        dimensions = self._graph.ndim
        try:
            self._graph.load(str(path))
            keys = np.asarray(self._graph.keys, np.uint64)
        except (RuntimeError, ValueError, OSError) as error:
            raise IndexDamagedError(f"{path}: {error}") from error
        held = (keys & _NUMBER_MASK).astype(np.int64)
        if self._graph.ndim != dimensions or not np.array_equal(np.sort(held), np.sort(numbers)):
            raise IndexDamagedError(f"{path}: it is not the graph of these {len(numbers)} vectors")
        self._reserve(held)
        self._turns[held] = keys >> _TURN_SHIFT

    def _take_out(self) -> None:
        if self._gone:
            self._graph.remove(np.array(self._gone, np.uint64), threads=1)
            self._gone = []

    def _keys(self, numbers: Numbers) -> Keys:
        return numbers.astype(np.uint64) | self._turns[numbers] << _TURN_SHIFT

    def _reserve(self, numbers: Numbers) -> None:
        end = int(numbers.max(initial=-1)) + 1
        if end > len(self._turns):
            turns = np.zeros(max(end, 2 * len(self._turns)), np.uint64)
            turns[: len(self._turns)] = self._turns
            self._turns = turns
