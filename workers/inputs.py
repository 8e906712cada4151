"""One input partition of a task: from fetched bytes to batches with event time, and what could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..topics.arrow_buffers import large_binary
from ..topics.batch import BEFORE, MIN_TIME, OFFSET, TIME, Batch, Fetch, Partition
from ..topics.codec import Codec
from ..topics.codec_of import codec_named
from ..topics.control import ControlRecord, split_control
from ..topics.dead_letter import Rejected
from ..topics.decode import decode_fetch
from ..topics.decode_table import decode_table
from ..topics.schema import Schema
from ..topics.timestamps import watermarks
from .graph import Source
from .repartition import BLOCK_TIME
from .topology import SubTopology, Topology
from .watermark import InputTime

RAW_SCHEMA = Schema((("key", pl.Binary()), ("value", pl.Binary())))
"""Columns of a source that is read as bytes, keys and tombstones included."""


@dataclass(slots=True)
class Input:
    """One source's partition."""

    source: Source
    partition: Partition
    codec: Codec
    time: InputTime
    position: int = 0
    """The next offset to be read."""
    end: int = 0
    """Where the partition ended when it was last fetched."""
    loaded_at: int | None = None
    """Where it ended when it was first fetched here: a table has been loaded when it was read so far."""

    @property
    def loaded(self) -> bool:
        return self.loaded_at is not None and self.position >= self.loaded_at

    @property
    def lag(self) -> int:
        """Offsets not read yet, as far as known."""
        return max(self.end - self.position, 0)

    def arrived(self, fetch: Fetch) -> None:
        """There is something to be read of it, so it is awake, whichever input is read first."""
        if len(fetch) or not fetch.caught_up:
            self.time.idle = False

    def follows_clock_to(self, now_ms: int) -> int | None:
        """How far the clock may take a quiet input's time; None where it is not quiet. Writers of a repartition follow it
        themselves, and tell how far."""
        if self.time.writers is not None:
            return self.time.watermark if self.time.idle else None
        idle_after = self.time.idle_after_ms
        if idle_after is None or self.time.held or not self.time.caught_up_for(idle_after, now_ms):
            return None
        return now_ms - idle_after - self.source.topic.out_of_order_ms

    def read(self, fetch: Fetch, now_ms: int) -> tuple[Batch, Sequence[Rejected]]:
        """Rows of a fetch, in offset order; event time moves on with them."""
        data, controls = split_control(fetch)
        if self.time.writers is None:
            batch, rejected = self._read_rows(data)
        else:
            batch, rejected = self._read_blocks(data, controls)
        self.position, self.end = fetch.next_offset, fetch.end_offset
        if self.loaded_at is None:
            self.loaded_at = fetch.end_offset
        self.time.position_moved(fetch.caught_up, len(data) > 0, now_ms)
        return batch, rejected

    def _read_rows(self, fetch: Fetch) -> tuple[Batch, Sequence[Rejected]]:
        if self.source.schema == RAW_SCHEMA:
            return self._read_bytes(fetch), ()
        decode = decode_table if self.source.table else decode_fetch
        decoded = decode(fetch, self.source.topic, self.codec, self.time.watermark)
        self.time.saw_rows(decoded.watermark)
        return decoded.batch, decoded.rejected

    def _read_bytes(self, fetch: Fetch) -> Batch:
        """Keys and values as they are; the record timestamp is the event time."""
        before, after = watermarks(fetch.timestamps, self.time.watermark, self.source.topic.out_of_order_ms)
        columns = {"key": large_binary(fetch.keys), "value": large_binary(fetch.values)}
        frame = pl.DataFrame({name: pl.Series(name, array, dtype=pl.Binary) for name, array in columns.items()})
        self.time.saw_rows(after)
        return Batch(frame.with_columns(_internal(fetch.timestamps, before, fetch.offsets)), self.partition)

    def _read_blocks(self, fetch: Fetch, controls: Sequence[ControlRecord]) -> tuple[Batch, Sequence[Rejected]]:
        """Rows of a repartition topic. Their times say nothing of the watermark: the writers' control records do."""
        decoded = decode_fetch(fetch, self.source.topic, self.codec, MIN_TIME)
        before = np.full(len(fetch) + 1, self.time.watermark, np.int64)
        for control in controls:
            self.time.saw_control([control])
            before[control.position :] = self.time.watermark
        frame = decoded.batch.frame
        record = np.searchsorted(fetch.offsets, frame[OFFSET].to_numpy())
        frame = frame.drop(BLOCK_TIME).with_columns(pl.Series(BEFORE, before[record], dtype=pl.Int64))
        return decoded.batch.replaced(frame), decoded.rejected


def inputs_of(topology: Topology, sub: SubTopology, partition: int) -> list[Input]:
    """The inputs of one task, as the plan says."""
    return [
        Input(source, Partition(source.topic.name, partition), codec_named(source.topic.codec), _time(topology, source))
        for source in sub.sources
        if partition < topology.partition_counts[source.topic.name]
    ]


def _time(topology: Topology, source: Source) -> InputTime:
    writers = topology.writers_of(source.topic.name)
    names = {f"{name}/{shard}": MIN_TIME for name, shard in writers} if writers else None
    return InputTime(source.topic.idle_after_ms, names)


def _internal(times: NDArray[np.int64], before: NDArray[np.int64], offsets: NDArray[np.int64]) -> list[pl.Series]:
    columns = ((TIME, times), (BEFORE, before), (OFFSET, offsets))
    return [pl.Series(name, values, dtype=pl.Int64) for name, values in columns]
