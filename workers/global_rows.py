"""A global table in this process: all rows of its topic, whatever shards we own, for every task that looks into it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..state.rows import NO_ROW, TableState
from ..topics.batch import MIN_TIME, Batch, Fetch
from ..topics.codec_of import codec_named
from ..topics.dead_letter import Rejected
from ..topics.decode_table import decode_table
from ..topics.schema import Schema
from ..topics.topic import Topic
from .errors import UserFunctionError
from .instrument import Instrument
from .row_bytes import RowBytes
from .table_schemas import table_keys

log = logging.getLogger("millstream.worker")


class GlobalRows:
    """The newest row of each key. Written by who follows the topic, read by tasks in other threads."""

    def __init__(self, topic: Topic, instrument: Instrument) -> None:
        assert topic.schema is not None, "checked where it was declared"
        self.topic = topic
        self.schema: Schema = topic.schema
        columns = self.schema.polars()
        self._state = TableState(topic.name, columns, RowBytes(columns))
        self._codec = codec_named(topic.codec)
        self._context = _Rejecting(topic, instrument)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._state)

    def take(self, fetch: Fetch) -> None:
        """Records of the topic. What is bad among them is counted and passed over. Raises UserFunctionError where it must not be."""
        decoded = decode_table(fetch, self.topic, self._codec, MIN_TIME)
        self._context.rejected(decoded.rejected)
        self.put(decoded.batch)

    def put(self, batch: Batch) -> None:
        """Upserts and tombstones."""
        batch, keys, deleted = table_keys(batch, self.topic.key, self._context)
        if len(batch):
            with self._lock:
                self._state.put(keys, batch.frame, None if deleted is None else deleted.to_numpy())
                self._state.take_changes()  # the topic is the truth: there is no changelog to be told
                self._state.take_checkpoint()

    def look_up(self, keys: pl.Series) -> tuple[NDArray[np.bool_], pl.DataFrame]:
        """Which of these key texts have a row, and the rows, nulls where there is none."""
        with self._lock:
            numbers = self._state.find(keys)
            return numbers != NO_ROW, self._state.rows(numbers)


class _Rejecting:
    """What a step's context is, for rows of a topic that is no input of any task: no dead letter, since every worker would write it."""

    def __init__(self, topic: Topic, instrument: Instrument) -> None:
        self.topic = topic
        self.instrument = instrument
        self.step = f"global table {topic.name}"
        self.partition = 0
        self._told = False

    def count(self, what: str, amount: int) -> None:
        self.instrument.count(what, amount, step=self.step)

    def reject(self, batch: Batch, rows: NDArray[np.int64], reasons: Sequence[str]) -> None:
        self.rejected([Rejected(int(row), "null_key", reason) for row, reason in zip(rows, reasons, strict=True)])

    def rejected(self, rejected: Sequence[Rejected]) -> None:
        """Counted, and the first one logged."""
        for one in rejected:
            self.instrument.count("rejected_records", 1, topic=self.topic.name, error=one.error, step="global_table")
        if rejected and self.topic.on_bad_record == "fail":
            raise UserFunctionError(f"{self.step}: {rejected[0].reason}; the topic says on_bad_record='fail'")
        if rejected and not self._told:
            self._told = True
            log.warning(
                "%s: a record is passed over (further ones are only counted): %s", self.step, rejected[0].reason
            )
