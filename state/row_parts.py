"""Where to cut rows that are more than may be worked on at once: by their times, or by the codes of their keys.

Of each chunk a few hundred rows, evenly spaced in order of arrival, stand for all of it; so a part is about as large as asked
for, and looking takes no memory. Rows of one time (or one key) are never cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from .row_chunks import Chunk

Ints = NDArray[np.int64]

_SAMPLES: Final = 256
"""Of a chunk."""


def cuts(chunks: Iterable[Chunk], column: Literal["times", "codes"], before: int, part_bytes: int) -> list[int]:
    """Values, ascending, at each of which a part begins: of rows with `time < before`. The first part begins before all."""
    samples = [_sample(chunk, column, before) for chunk in chunks if chunk.tmin < before]
    values = np.concatenate([np.zeros(0, np.int64), *(values for values, _ in samples)])
    sizes = np.concatenate([np.zeros(0), *(np.full(len(values), size) for values, size in samples)])
    if not len(values):
        return []
    order = np.argsort(values, kind="stable")
    part = np.cumsum(sizes[order]) // max(part_bytes, 1)
    first = np.flatnonzero(part[1:] != part[:-1]) + 1
    begins: list[int] = np.unique(values[order[first]]).tolist()
    return [value for value in begins if value > values[order[0]]]


def _sample(chunk: Chunk, column: str, before: int) -> tuple[Ints, float]:
    """Some living rows, and how many bytes each of them stands for."""
    rows = np.arange(0, len(chunk), -(-len(chunk) // _SAMPLES))
    size = chunk.whole_bytes / len(rows)
    living = chunk.times[rows] < before
    if chunk.alive is not None:
        living &= chunk.alive[rows]
    values: Ints = getattr(chunk, column)[rows[living]]
    return values, size
