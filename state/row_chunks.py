"""Rows that wait, in order of arrival, as columns: picked by masks over their times and keys, then dropped.

A pick looks at every row that is kept: some nanoseconds each, and only where a chunk's times say that it may be concerned.
Chunks of about one size become one (size-tiered, up to `_CHUNK_ROWS_MAX`); dropped rows go when they are half of a chunk.

Larger than memory (`spill`): the oldest chunks go to scratch files as they are (`state/spill.py`), so those on disk come first,
and nothing is inserted among them. What lives of one of them when half is gone is written anew; neighbours that have become
small become one. Which rows are alive is a byte a row in memory, for a write to a mapped page could find the disk full; other
columns that change are written to a file of their own, and the rows stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .frame_bytes import compact, frame_bytes
from .spill import write_columns

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

NO_KEY: Final = -1
"""The code of a row whose key is null."""
_CHUNK_ROWS_MAX: Final = 1 << 17
_FAN_IN: Final = 4
_ROW_BYTES: Final = 33
"""Of a row beside its frame: times, codes, marks, numbers, alive."""
_SMALL_PARTS: Final = 4
"""Neighbours on disk become one that is at most this part of the largest a chunk is made."""


class Chunk:
    """Columns of one length. `marks`: a number of the operator's own. `numbers` ascend."""

    def __init__(self, frame: pl.DataFrame, times: Ints, codes: Ints, marks: Ints, numbers: Ints) -> None:
        self.frame, self.times, self.codes, self.marks, self.numbers = frame, times, codes, marks, numbers
        self.tmin, self.tmax, self.last = int(times.min()), int(times.max()), int(numbers.max())
        """`last`: the largest number."""
        self.alive: Flags | None = None
        """None: all."""
        self.rows = len(times)
        """Alive ones."""
        self.whole_bytes = frame_bytes(frame) + _ROW_BYTES * len(times)
        """In memory or not, dead rows too."""
        self.disk_bytes = 0

    def __len__(self) -> int:
        return len(self.times)

    @property
    def memory_bytes(self) -> int:
        if not self.disk_bytes:
            return self.whole_bytes
        return 0 if self.alive is None else self.alive.nbytes

    @property
    def living_bytes(self) -> int:
        """About what its living rows take in memory."""
        return self.whole_bytes * self.rows // len(self)

    def drop(self, rows: Ints) -> None:
        if self.alive is None:
            self.alive = np.ones(len(self.times), np.bool_)
        self.alive[rows] = False
        self.rows -= len(rows)

    def living(self) -> Ints:
        return np.arange(len(self.times)) if self.alive is None else np.flatnonzero(self.alive)

    def taken(self, rows: Ints) -> Chunk:
        columns = (self.times, self.codes, self.marks, self.numbers)
        return Chunk(compact(self.frame[rows]), *(column[rows] for column in columns))

    def move_to(self, folder: Path) -> int:
        """To disk; how many bytes of a file. Raises DiskError, and is then as it was."""
        written = write_columns(folder, self.frame, (self.times, self.codes, self.marks, self.numbers))
        self.frame = written.frame
        self.times, self.codes, self.marks, self.numbers = written.arrays
        self.disk_bytes = written.size_bytes
        return self.disk_bytes

    def recode(self, codes: Ints, folder: Path | None) -> None:
        """Other codes of its rows. `folder`: of scratch files, where it is on disk."""
        self.codes = self._placed(codes, folder)

    def renumber(self, numbers: Ints, folder: Path | None) -> None:
        """Other numbers of its rows."""
        self.last = int(numbers.max())
        self.numbers = self._placed(numbers, folder)

    def _placed(self, column: Ints, folder: Path | None) -> Ints:
        if not self.disk_bytes or folder is None:
            return column
        placed: Ints = write_columns(folder, pl.DataFrame(), (column,)).arrays[0]
        return placed


def merged(chunks: Sequence[Chunk]) -> Chunk:
    """Living rows of chunks, of which some must be there."""
    parts = [chunk if chunk.alive is None else chunk.taken(chunk.living()) for chunk in chunks if chunk.rows]
    if len(parts) == 1:
        return parts[0]
    columns = [[getattr(part, name) for part in parts] for name in ("times", "codes", "marks", "numbers")]
    return Chunk(pl.concat([part.frame for part in parts], rechunk=True), *map(np.concatenate, columns))


class Rows(Protocol):
    """Rows that can be had by where they stand."""

    def at(self, places: Ints) -> pl.DataFrame:
        """These, in this order."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """Rows of a frame."""

    frame: pl.DataFrame

    def at(self, places: Ints) -> pl.DataFrame:
        return self.frame[places]


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

    @property
    def size_bytes(self) -> int:
        """About what they take as a frame."""
        return sum(chunk.whole_bytes * len(rows) // len(chunk) for chunk, rows in self.parts)

    def in_parts(self, bytes_max: int) -> Iterator[Picked]:
        """The same rows, in parts of about this size."""
        size, parts = 0, []
        for chunk, rows in self.parts:
            step = max(1, bytes_max * len(chunk) // chunk.whole_bytes)
            for at in range(0, len(rows), step):
                some = rows[at : at + step]
                parts.append((chunk, some))
                size += chunk.whole_bytes * len(some) // len(chunk)
                if size >= bytes_max:
                    yield Picked(self.schema, parts)
                    size, parts = 0, []
        if parts:
            yield Picked(self.schema, parts)

    def at(self, places: Ints) -> pl.DataFrame:
        """Those of the rows that stand at these places, in this order: nothing else is gathered."""
        if not self.parts:
            return pl.DataFrame(schema=self.schema).clear(len(places))
        ends = np.cumsum([len(rows) for _, rows in self.parts])
        which = ends.searchsorted(places, "right")
        order = np.argsort(which, kind="stable")
        stops = which[order].searchsorted(np.arange(len(self.parts)), "right")
        frames, begin = [], 0
        for (chunk, rows), end, stop in zip(self.parts, ends, stops, strict=True):
            if stop > begin:
                frames.append(chunk.frame[rows[places[order[begin:stop]] - (end - len(rows))]])
                begin = stop
        if len(frames) < 2:
            return frames[0] if frames else pl.DataFrame(schema=self.schema)
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        found: pl.DataFrame = pl.concat(frames, rechunk=True)[back]
        return found

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
        self.folder: Path | None = None
        """Of scratch files; None: everything stays in memory."""
        self.chunk_bytes_max = 0
        """Larger ones are not made of several where there is a folder: the unit in which rows go to disk."""
        self._spilled_bytes = 0

    @property
    def rows(self) -> int:
        return sum(chunk.rows for chunk in self.chunks)

    @property
    def size_bytes(self) -> int:
        """Of memory."""
        return sum(chunk.memory_bytes for chunk in self.chunks)

    @property
    def loose_bytes(self) -> int:
        """Of memory, what `spill` could write."""
        return _bytes([chunk for chunk in self.chunks if not chunk.disk_bytes])

    @property
    def disk_bytes(self) -> int:
        return sum(chunk.disk_bytes for chunk in self.chunks)

    @property
    def living_bytes(self) -> int:
        """What all living rows would take in memory."""
        return sum(chunk.living_bytes for chunk in self.chunks)

    def take_spilled_bytes(self) -> int:
        """Written to disk since the last call."""
        written, self._spilled_bytes = self._spilled_bytes, 0
        return written

    def append(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        while (first := self._group()) is not None:
            self.chunks[first:] = [merged(self.chunks[first:])]

    def _group(self) -> int | None:
        """Where the newest chunks of about one size begin, if they are enough to become one."""
        first = len(self.chunks) - _FAN_IN
        if first < 0 or self.chunks[first].rows >= 4 * self.chunks[-1].rows:
            return None
        group = self.chunks[first:]
        if sum(chunk.rows for chunk in group) > _CHUNK_ROWS_MAX or group[0].disk_bytes:
            return None
        return first if self.folder is None or _bytes(group) <= self.chunk_bytes_max else None

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

    def of_numbers_from(self, first: int) -> Picked:
        """Living rows of this number or a larger one; chunks without any are not read."""
        parts = []
        for chunk in self.chunks:
            rows = chunk.living() if chunk.last >= first else np.zeros(0, np.int64)
            rows = rows[chunk.numbers[rows] >= first]
            if len(rows):
                parts.append((chunk, rows))
        return Picked(self.schema, parts)

    def drop(self, picked: Picked) -> None:
        """Raises DiskError, and may then have more rows on disk than it needs."""
        for chunk, rows in picked.parts:
            chunk.drop(rows)
        self.chunks = [chunk for chunk in self.chunks if chunk.rows]
        tidied = False
        for at, chunk in enumerate(self.chunks):
            if 2 * chunk.rows < len(chunk):
                self.chunks[at] = self._anew([chunk])
                tidied |= chunk.disk_bytes > 0
        if tidied:
            self.chunks = [self._anew(few) if len(few) > 1 else few[0] for few in self._small_neighbours()]

    def _anew(self, chunks: Sequence[Chunk]) -> Chunk:
        """What lives of them as one, on disk where they were."""
        one = merged(chunks)
        if chunks[0].disk_bytes:
            self._move(one)
        return one

    def _small_neighbours(self) -> list[list[Chunk]]:
        groups: list[list[Chunk]] = []
        for chunk in self.chunks:
            near = groups[-1] if groups else []
            few = _SMALL_PARTS * (sum(one.living_bytes for one in near) + chunk.living_bytes) <= self.chunk_bytes_max
            if near and few and chunk.disk_bytes:
                near.append(chunk)
            else:
                groups.append([chunk])
        return groups

    def spill(self) -> bool:
        """Writes the oldest rows in memory to disk, about `chunk_bytes_max`; False where there are none. Raises DiskError."""
        first = next((at for at, chunk in enumerate(self.chunks) if not chunk.disk_bytes), None)
        if first is None or self.folder is None:
            return False
        stop = first + 1
        while stop < len(self.chunks) and _bytes(self.chunks[first : stop + 1]) <= self.chunk_bytes_max:
            stop += 1
        one = merged(self.chunks[first:stop])
        self._move(one)
        self.chunks[first:stop] = [one]
        return True

    def _move(self, chunk: Chunk) -> None:
        if self.folder is not None:
            self._spilled_bytes += chunk.move_to(self.folder)


def _bytes(chunks: Sequence[Chunk]) -> int:
    return sum(chunk.whole_bytes for chunk in chunks)
