"""The three shapes in which data moves: `Fetch` (bytes in), `Batch` (columns inside), `Records` (bytes out).

Work is done on micro-batches of columns, never on one Python object a record. A `Fetch` is what one poll brought of one
partition, still bytes; only it knows offsets. A `Batch` is a polars frame of the user's columns plus columns of ours
(`TIME`, `BEFORE`, `OFFSET`, at times `DELETED`) that ride along through every stateless step. `Records` are the columns of
bytes a producer sends.

None of them is ever changed in place: a step gives a new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

TIME: Final = "__time"
"""Event time of the row, Int64 milliseconds since the epoch, never null."""

BEFORE: Final = "__before"
"""Watermark of the row's own input partition just before the row (Int64 ms). Lateness is judged by it, row by row."""

OFFSET: Final = "__offset"
"""Offset of the record the row came from (Int64), or -1 where a step made the row."""

DELETED: Final = "__deleted"
"""Only present where a step takes results back (Boolean): a true row is a tombstone, of which only the key columns count."""

INTERNAL_COLUMNS: Final = (TIME, BEFORE, OFFSET, DELETED)

MIN_TIME: Final = -(1 << 62)
"""A watermark before everything: no record seen yet."""

MAX_TIME: Final = 1 << 62
"""A watermark after everything: the input has ended."""

Headers = tuple[tuple[str, bytes | None], ...]
"""Record headers in their order; names may repeat, as in Kafka."""


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one topic."""

    topic: str
    index: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.index}"


@dataclass(frozen=True, slots=True)
class Fetch:
    """What one poll brought of one partition: all its records with offsets in `[first_offset, next_offset)`, as columns.

    Offsets may have gaps (compaction, control batches, aborted transactions), and a fetch can be empty and still move the
    position: `next_offset` is where to read on, never `offsets[-1] + 1`.
    """

    partition: Partition
    first_offset: int
    next_offset: int
    end_offset: int
    """End of the partition as this fetch saw it: the last stable offset under read_committed, else the high watermark."""
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    headers: Mapping[int, Headers] = field(default_factory=dict)
    """Headers by row number, only of the rows that have some."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def caught_up(self) -> bool:
        """Whether nothing was left to read when this fetch was answered."""
        return self.next_offset >= self.end_offset


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one input partition in offset order (or rows made by a step): the user's columns and `INTERNAL_COLUMNS`."""

    frame: pl.DataFrame
    origin: Partition | None = None
    """The partition whose records the rows came from; None for rows a step made. With `OFFSET` it finds the record again."""

    def __len__(self) -> int:
        return self.frame.height

    @property
    def time(self) -> NDArray[np.int64]:
        return self.frame[TIME].to_numpy()

    @property
    def before(self) -> NDArray[np.int64]:
        return self.frame[BEFORE].to_numpy()

    @property
    def user_columns(self) -> list[str]:
        return [name for name in self.frame.columns if name not in INTERNAL_COLUMNS]

    def replaced(self, frame: pl.DataFrame) -> Batch:
        """The same origin with another frame."""
        return Batch(frame, self.origin)


@dataclass(frozen=True, slots=True)
class Records:
    """Columns of bytes to be written to one partition, in this order."""

    keys: pa.LargeBinaryArray | None
    """None: every key is null."""
    values: pa.LargeBinaryArray
    """A null value is a tombstone."""
    timestamps: NDArray[np.int64] | None = None
    """Milliseconds since the epoch; None: the producer's clock at the time of sending."""
    headers: Sequence[Headers] | None = None
    """One entry a row, or None: no record has headers."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def size_bytes(self) -> int:
        return int(self.values.nbytes) + (int(self.keys.nbytes) if self.keys is not None else 0)
