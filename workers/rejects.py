"""Rows and records that go no further: counted, and written to the dead-letter topic of the source they came from.

The original record is found again by partition and offset while its fetch is being worked on. A row that a step made, that
came through a repartition topic (whose records are blocks of rows), or whose record is long gone (it waited for a call), is
written as JSON of its columns instead. Behind a repartition topic the policy of the sources before it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..topics.arrow_buffers import series_binary
from ..topics.batch import INTERNAL_COLUMNS, OFFSET, Batch, Fetch, Partition, Records
from ..topics.codecs.json import CODEC as JSON
from ..topics.dead_letter import PREFIX, Rejected, dead_letter_records
from .commit import Send
from .errors import UserFunctionError
from .graph import Source
from .inputs import RAW_SCHEMA
from .instrument import Instrument
from .repartition import BLOCK_TIME


class Rejects:
    """Of one task."""

    def __init__(self, app: str, sources: Sequence[Source], counts: Mapping[str, int], instrument: Instrument) -> None:
        """`counts`: partitions by topic, of the dead-letter topics at least."""
        self._app = app
        self._counts = counts
        self._topics = {source.topic.name: source.topic for source in sources}
        self._instrument = instrument
        self._reading: dict[Partition, Fetch] = {}
        self._sends: list[Send] = []

    def reading(self, fetch: Fetch) -> None:
        """From now on rows may come from this fetch."""
        self._reading[fetch.partition] = fetch

    def read(self, partition: Partition) -> None:
        """The fetch of this partition has been worked off."""
        self._reading.pop(partition, None)

    def records(self, fetch: Fetch, rejected: Sequence[Rejected]) -> None:
        """Records that could not be read. Raises UserFunctionError where the topic's policy is `fail`."""
        topic = self._topics[fetch.partition.topic]
        for one in rejected:
            self._instrument.count("rejected_records", 1, topic=topic.name, error=one.error, step=one.step)
        if topic.on_bad_record == "fail":
            first = rejected[0]
            raise UserFunctionError(
                f"{fetch.partition} offset {int(fetch.offsets[first.row])}: {first.reason} ({first.step}); "
                f"topic {topic.name!r} says on_bad_record='fail'"
            )
        if topic.dead_letters is not None and topic.on_bad_record == "dead_letter":
            target = Partition(topic.dead_letters, fetch.partition.index % self._counts[topic.dead_letters])
            self._sends.append(Send(target, dead_letter_records(fetch, rejected, app=self._app)))

    def rows(self, batch: Batch, rows: NDArray[np.int64], reasons: Sequence[str], step: str) -> None:
        """Rows a step cannot work on."""
        fetch = self._reading.get(batch.origin) if batch.origin is not None else None
        if fetch is None or self._topics[fetch.partition.topic].event_time == BLOCK_TIME:
            self._without_record(batch, rows, reasons, step)
            return
        offsets = batch.frame[OFFSET].to_numpy()[rows]
        records = np.searchsorted(fetch.offsets, offsets)
        known = (records < len(fetch)) & (fetch.offsets[np.minimum(records, len(fetch) - 1)] == offsets)
        found = zip(records[known].tolist(), _picked(reasons, known), strict=True)
        self.records(fetch, [Rejected(row, "function", reason, step) for row, reason in found])
        if not known.all():
            self._without_record(batch, rows[~known], _picked(reasons, ~known), step)

    def _without_record(self, batch: Batch, rows: NDArray[np.int64], reasons: Sequence[str], step: str) -> None:
        """To the dead letters of the first source that has some: rows of bytes as they were, others as JSON of their columns.

        Raises UserFunctionError where a source's policy is `fail`.
        """
        frame = batch.frame[rows].select(name for name in batch.frame.columns if name not in INTERNAL_COLUMNS)
        self._instrument.count("rejected_records", len(rows), topic="", error="function", step=step)
        if any(topic.on_bad_record == "fail" for topic in self._topics.values()):
            raise UserFunctionError(
                f"step {step!r}: {reasons[0]}; on_bad_record='fail'; the row: {frame.row(0, named=True)}"
            )
        target = next((topic.dead_letters for topic in self._topics.values() if topic.dead_letters), None)
        if target is None:
            return
        headers = [_headers(reason, step, self._app) for reason in reasons]
        if dict(frame.schema) == RAW_SCHEMA.polars():
            records = Records(series_binary(frame["key"]), series_binary(frame["value"]), headers=headers)
        else:
            records = Records(None, JSON.encode(frame), headers=headers)
        self._sends.append(Send(Partition(target, 0), records))

    def take(self) -> list[Send]:
        """Dead letters since the last call."""
        sends, self._sends = self._sends, []
        return sends


def _headers(reason: str, step: str, app: str) -> tuple[tuple[str, bytes | None], ...]:
    said = (("error", "function"), ("reason", reason), ("step", step), ("app", app))
    return tuple((PREFIX + name, text.encode("utf-8", "replace")) for name, text in said)


def _picked(reasons: Sequence[str], mask: NDArray[np.bool_]) -> list[str]:
    return [reason for reason, wanted in zip(reasons, mask.tolist(), strict=True) if wanted]
