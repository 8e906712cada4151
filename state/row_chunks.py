"""Rows that wait, in order of arrival, as columns: picked by masks over their times and keys, then dropped.

A pick looks at every row that is kept: some nanoseconds each, and only where a chunk's times say that it may be concerned.
Chunks of about one size become one (size-tiered, up to `_CHUNK_ROWS_MAX`); dropped rows go when they are half of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

NO_KEY: Final = -1
"""The code of a row whose key is null."""
_CHUNK_ROWS_MAX: Final = 1 << 17
_FAN_IN: Final = 4


class Chunk:
    """Columns of one length. `marks`: a number of the operator's own. `numbers` ascend."""

    def __init__(self, frame: pl.DataFrame, times: Ints, codes: Ints, marks: Ints, numbers: Ints) -> None:
        self.frame, self.times, self.codes, self.marks, self.numbers = frame, times, codes, marks, numbers
        self.tmin, self.tmax = int(times.min()), int(times.max())
        self.alive: Flags | None = None
        """None: all."""
        self.rows = len(times)
        """Alive ones."""

    def drop(self, rows: Ints) -> None:
        if self.alive is None:
            self.alive = np.ones(len(self.times), np.bool_)
        self.alive[rows] = False
        self.rows -= len(rows)

    def living(self) -> Ints:
        return np.arange(len(self.times)) if self.alive is None else np.flatnonzero(self.alive)

    def taken(self, rows: Ints) -> Chunk:
        columns = (self.times, self.codes, self.marks, self.numbers)
        return Chunk(self.frame[rows], *(column[rows] for column in columns))


def merged(chunks: Sequence[Chunk]) -> Chunk:
    """Living rows of chunks, of which some must be there."""
    parts = [chunk if chunk.alive is None else chunk.taken(chunk.living()) for chunk in chunks if chunk.rows]
    if len(parts) == 1:
        return parts[0]
    columns = [[getattr(part, name) for part in parts] for name in ("times", "codes", "marks", "numbers")]
    return Chunk(pl.concat([part.frame for part in parts], rechunk=True), *map(np.concatenate, columns))


@dataclass(frozen=True, slots=True)
class Picked:
    """Some rows, in order of arrival."""

    schema: dict[str, pl.DataType]
    parts: Sequence[tuple[Chunk, Ints]]

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self.parts)

    @property
    def times(self) -> Ints:
        return self._column("times")

    @property
    def codes(self) -> Ints:
        return self._column("codes")

    @property
    def marks(self) -> Ints:
        return self._column("marks")

    @property
    def numbers(self) -> Ints:
        return self._column("numbers")

    def _column(self, name: str) -> Ints:
        parts = [getattr(chunk, name)[rows] for chunk, rows in self.parts]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def frame(self) -> pl.DataFrame:
        parts = [chunk.frame[rows] for chunk, rows in self.parts]
        return pl.concat(parts, rechunk=True) if parts else pl.DataFrame(schema=self.schema)

    def where(self, mask: Flags) -> Picked:
        """Those of the rows."""
        ends = np.cumsum([len(rows) for _, rows in self.parts])[:-1]
        pieces = zip(self.parts, np.split(mask, ends), strict=True) if self.parts else ()
        return Picked(self.schema, [(chunk, rows[flags]) for (chunk, rows), flags in pieces if flags.any()])


class RowChunks:
    """The rows of one side."""

    def __init__(self, schema: dict[str, pl.DataType]) -> None:
        self.schema = schema
        self.chunks: list[Chunk] = []

    @property
    def rows(self) -> int:
        return sum(chunk.rows for chunk in self.chunks)

    @property
    def size_bytes(self) -> int:
        return sum(int(chunk.frame.estimated_size()) + 33 * len(chunk.times) for chunk in self.chunks)

    def append(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        while (first := self._group()) is not None:
            self.chunks[first:] = [merged(self.chunks[first:])]

    def _group(self) -> int | None:
        """Where the newest chunks of about one size begin, if they are enough to become one."""
        first = len(self.chunks) - _FAN_IN
        if first < 0 or self.chunks[first].rows >= 4 * self.chunks[-1].rows:
            return None
        return first if sum(chunk.rows for chunk in self.chunks[first:]) <= _CHUNK_ROWS_MAX else None

    def pick(self, mask: Callable[[Chunk], Flags], *, after: int | None = None, before: int | None = None) -> Picked:
        """Living rows for which the mask is true. `after`, `before`: all of them have `after <= time < before`."""
        parts = []
        for chunk in self.chunks:
            if (before is not None and chunk.tmin >= before) or (after is not None and chunk.tmax < after):
                continue
            flags = mask(chunk)
            rows = np.flatnonzero(flags if chunk.alive is None else flags & chunk.alive)
            if len(rows):
                parts.append((chunk, rows))
        return Picked(self.schema, parts)

    def drop(self, picked: Picked) -> None:
        for chunk, rows in picked.parts:
            chunk.drop(rows)
        for at, chunk in enumerate(self.chunks):
            if 0 < 2 * chunk.rows < len(chunk.times):
                self.chunks[at] = merged([chunk])
        self.chunks = [chunk for chunk in self.chunks if chunk.rows]
