"""Vectors by number, and the nearest to a vector. One index, one file in `indexes/`.

Numbers are the view's (`view.py`): small, dense and used again, so a plain array by number is a bitmap of everything there is.
All vectors are unit rows; similarity is the cosine. Used from one thread, the event loop's: a search takes about a
millisecond and updates come in batches of a few, so neither waits for the other long, and no lock is held over either.
The contract suite is `tests/contracts/test_indexes.py`, with exact search as the oracle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Vectors = NDArray[np.float32]
Vector = NDArray[np.float32]
Bitmap = NDArray[np.bool_]
"""Whether a number may be found. Shorter than the largest number: the rest may not."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Numbers and their cosines, the nearest first, ties by number."""

    numbers: Numbers
    similarities: Vector

    def __len__(self) -> int:
        return len(self.numbers)


class Index(Protocol):
    """Upsert, remove, search."""

    @property
    def dimensions(self) -> int: ...

    def __len__(self) -> int: ...

    def upsert(self, numbers: Numbers, vectors: Vectors) -> None:
        """Numbers are distinct within a call; one that is there gets its new vector."""
        ...

    def remove(self, numbers: Numbers) -> None:
        """Numbers that are not there are passed over."""
        ...

    def search(self, vector: Vector, k: int, allowed: Bitmap | None = None) -> Found:
        """The k nearest of those allowed (None: all); fewer only where there are fewer."""
        ...

    def similarities(self, vector: Vector, numbers: Numbers) -> Vector:
        """Cosines of numbers that are there."""
        ...

    def vectors(self, numbers: Numbers) -> Vectors:
        """As stored, which may be less precise than what was given."""
        ...

    @property
    def wants_rebuild(self) -> bool:
        """So much was replaced that searching suffers."""
        ...

    def begin_rebuild(self) -> Rebuild:
        """A fresh structure over what is there now, to be built in a thread; changes are noted until `finish_rebuild`."""
        ...

    def finish_rebuild(self, rebuild: Rebuild) -> bool:
        """Takes over what `rebuild.run` made, with what changed meanwhile.

        False: so much has changed that `rebuild.run` is to be called once more, in a thread again, and then this.
        """
        ...

    def save(self, path: Path) -> None:
        """Writes what is dear to build (a graph), with fsync; an index with nothing of the kind writes nothing."""
        ...

    def load(self, path: Path, numbers: Numbers, vectors: Vectors) -> None:
        """Into an empty index: these vectors, and the graph saved for exactly these numbers.

        Raises IndexDamagedError, and is empty afterwards, when the file does not fit: `upsert` builds it anew.
        """
        ...


class Rebuild(Protocol):
    """Work for a thread; changes nothing of the index it came from, which may change meanwhile."""

    def run(self) -> None: ...


def top(numbers: Numbers, similarities: Vector, k: int) -> Found:
    """The k largest, ties by number."""
    if len(numbers) > k:
        bar = np.partition(similarities, len(numbers) - k)[len(numbers) - k]
        above, level = np.flatnonzero(similarities > bar), np.flatnonzero(similarities == bar)
        level = level[np.argsort(numbers[level])][: k - len(above)]
        best = np.concatenate([above, level])
        numbers, similarities = numbers[best], similarities[best]
    order = np.lexsort((numbers, -similarities))
    return Found(numbers[order], similarities[order])


def none_found() -> Found:
    return Found(np.zeros(0, np.int64), np.zeros(0, np.float32))
