"""From rows at the end of a task to records for the broker: encoded, keyed, partitioned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..topics.arrow_buffers import large_binary, series_binary
from ..topics.batch import DELETED, INTERNAL_COLUMNS, TIME, Batch, Headers, Partition, Records
from ..topics.codec import Codec
from ..topics.codecs.arrow import block
from ..topics.control import ControlRecord, control_header, control_records
from ..topics.key import key_bytes
from ..topics.partitioner import murmur2_partitions
from .commit import Send
from .repartition import BLOCK_ROWS_MAX, BLOCK_TIME


@dataclass(frozen=True, slots=True)
class SinkWriter:
    """Rows for one topic. Rows without a key go to the partition of the task's own number."""

    topic: str
    codec: Codec
    key: tuple[str, ...]
    partitions: int
    own_partition: int

    def sends(self, batches: Sequence[Batch]) -> list[Send]:
        """In the order of the rows, a partition. Large batches are written each for itself: what a window gives has one
        start, one end and one time, which makes it cheaper to encode than windows that were joined first."""
        return [send for frame in _pieces([batch.frame for batch in batches]) for send in self._sends_of(frame)]

    def _sends_of(self, frame: pl.DataFrame) -> list[Send]:
        keys, values = self._encoded(frame)
        times = frame[TIME].to_numpy()
        targets = partitions_of(keys, self.partitions, self.own_partition, frame.height)
        return [
            Send(Partition(self.topic, index), Records(_keys(keys, rows), _taken(values, rows), _rows(times, rows)))
            for index, rows in _by_partition(targets)
        ]

    def _encoded(self, frame: pl.DataFrame) -> tuple[pa.LargeBinaryArray | None, pa.LargeBinaryArray]:
        if self.codec.name == "raw" and "key" in frame.columns:
            return series_binary(frame["key"]), series_binary(frame["value"])
        keys = key_bytes(frame, self.key) if self.key else None
        values = self.codec.encode(frame.select(name for name in frame.columns if name not in INTERNAL_COLUMNS))
        if DELETED in frame.columns:
            kept = pa.array(~frame[DELETED].fill_null(value=False).to_numpy())
            values = pc.if_else(kept, values, pa.scalar(None, pa.large_binary()))
        return keys, values


@dataclass(slots=True)
class RepartitionWriter:
    """Rows for a repartition topic, and the control records that say how far they are."""

    topic: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    partitions: int
    writer: str
    own_partition: int
    interval_ms: int
    told: ControlRecord | None = None
    """What was last told to every partition."""

    def sends(self, batches: Sequence[Batch], watermark: int, idle: bool, *, quiet: bool) -> list[Send]:
        """Blocks of the rows, and behind them the watermark: as a header where a partition gets rows, as a record of its
        own elsewhere, when it moved by the interval or when the task had nothing else to do (`quiet`).
        """
        control = ControlRecord(self.writer, self.own_partition, watermark, idle)
        blocks = self._blocks(batches)
        sends = [
            Send(Partition(self.topic, index), _with_header(values, control))
            for index, values in sorted(blocks.items())
        ]
        if self._worth_telling(control, quiet):
            self.told = control
            others = [index for index in range(self.partitions) if index not in blocks]
            sends += [Send(Partition(self.topic, index), control_records([control])) for index in others]
        return sends

    def _worth_telling(self, control: ControlRecord, quiet: bool) -> bool:
        if self.told is None or self.told.idle != control.idle:
            return True
        moved_ms = control.watermark - self.told.watermark
        return moved_ms > 0 if quiet else moved_ms >= self.interval_ms

    def _blocks(self, batches: Sequence[Batch]) -> dict[int, list[bytes]]:
        if not batches:
            return {}
        frame = joined([batch.frame for batch in batches])
        keys = key_bytes(frame, self.key)
        targets = partitions_of(keys, self.partitions, self.own_partition, frame.height)
        taken_back = [DELETED] if DELETED in frame.columns else []
        kept = frame.select(*self.columns, pl.col(TIME).alias(BLOCK_TIME), *taken_back)
        return {index: list(_cut(kept if rows is None else kept[rows])) for index, rows in _by_partition(targets)}


PIECE_ROWS_MIN = 2_000
"""Frames with fewer rows are joined with their neighbours before they are encoded."""


def _pieces(frames: Sequence[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows, in pieces that are worth a call each."""
    small: list[pl.DataFrame] = []
    rows = 0
    for frame in frames:
        if frame.height >= PIECE_ROWS_MIN and not small:
            yield frame
            continue
        small.append(frame)
        rows += frame.height
        if rows >= PIECE_ROWS_MIN:
            yield joined(small)
            small, rows = [], 0
    if small:
        yield joined(small)


def joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Frames one behind the other; some may lack the `DELETED` column."""
    if len(frames) == 1:
        return frames[0]
    return pl.concat(frames, how="diagonal" if len({frame.width for frame in frames}) > 1 else "vertical")


def partitions_of(keys: pa.LargeBinaryArray | None, count: int, own: int, rows: int) -> NDArray[np.int32]:
    """The target partition of each row, as the Java client chooses it; null keys stay at the task's own number."""
    if keys is None or count == 1:
        return np.full(rows, 0 if count == 1 else own % count, np.int32)
    targets = murmur2_partitions(keys, count)
    if keys.null_count:
        targets = np.where(np.asarray(keys.is_null()), np.int32(own % count), targets)
    return targets


def _by_partition(targets: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.int64] | None]]:
    """Each partition with its rows in order; None: all rows."""
    if len(targets) == 0:
        return
    first = int(targets[0])
    if (targets == first).all():
        yield first, None
        return
    for index in np.unique(targets).tolist():
        yield int(index), np.flatnonzero(targets == index)


def _cut(frame: pl.DataFrame) -> Iterator[bytes]:
    for start in range(0, frame.height, BLOCK_ROWS_MAX):
        yield block(frame[start : start + BLOCK_ROWS_MAX])


def _with_header(values: Sequence[bytes], control: ControlRecord) -> Records:
    headers: list[Headers] = [() for _ in values[:-1]]
    return Records(None, large_binary(values), headers=[*headers, control_header(control)])


def _taken(array: pa.LargeBinaryArray, rows: NDArray[np.int64] | None) -> pa.LargeBinaryArray:
    return array if rows is None else array.take(pa.array(rows, pa.int64()))


def _keys(array: pa.LargeBinaryArray | None, rows: NDArray[np.int64] | None) -> pa.LargeBinaryArray | None:
    return None if array is None else _taken(array, rows)


def _rows(values: NDArray[np.int64], rows: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return values if rows is None else values[rows]
