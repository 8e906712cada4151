"""From a fetch to a batch: decode the values, read the event times, follow the watermark, set aside what is bad.

A record is rejected, with its reason, when it does not decode, its value is null (a tombstone means nothing in a stream), or
its event time is null or absurd. It never drags the watermark and never costs its neighbours. A key is not looked at here:
key columns are columns of the value, and the operator that groups by them rejects nulls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .batch import BEFORE, MAX_TIME, OFFSET, TIME, Batch, Fetch
from .codec import BadRow, Codec, Decoded
from .dead_letter import Rejected
from .errors import SchemaError
from .timestamps import bad_times, event_times, watermarks, why_bad
from .topic import Topic


@dataclass(frozen=True, slots=True)
class DecodedFetch:
    """What a fetch gave."""

    batch: Batch
    watermark: int
    """Of the partition, after these rows."""
    rejected: Sequence[Rejected]
    """By row number of the fetch, ascending."""


def decode_fetch(fetch: Fetch, topic: Topic, codec: Codec, watermark: int) -> DecodedFetch:
    """Decode one partition's fetch (control records split off before: `split_control`).

    `watermark`: of the partition before it, `MIN_TIME` at the start. Raises SchemaError when the topic has no schema.
    """
    if topic.schema is None:
        raise SchemaError(f"topic {topic.name!r} has no schema, so its records cannot be read; declare one")
    decoded = codec.decode(fetch.values, topic.schema)
    rejected = [_rejected(bad) for bad in decoded.bad]
    rows = decoded.rows
    timestamps = fetch.timestamps if rows is None else fetch.timestamps[rows]
    decoded, times, late_rejected = _timed(decoded, topic, timestamps)
    if late_rejected:
        rejected = sorted([*rejected, *late_rejected], key=lambda one: one.row)
    before, after = watermarks(times, watermark, topic.out_of_order_ms)
    offsets = fetch.offsets if decoded.rows is None else fetch.offsets[decoded.rows]
    ours = [pl.Series(TIME, times), pl.Series(BEFORE, before), pl.Series(OFFSET, offsets, dtype=pl.Int64)]
    return DecodedFetch(Batch(decoded.frame.hstack(ours), fetch.partition), after, rejected)


def _rejected(bad: BadRow) -> Rejected:
    return Rejected(bad.row, "null_value" if bad.reason == "null value" else "decode", bad.reason)


def _timed(
    decoded: Decoded, topic: Topic, timestamps: NDArray[np.int64]
) -> tuple[Decoded, NDArray[np.int64], list[Rejected]]:
    """Rows with a good event time, these times, and the rows without."""
    frame, name = decoded.frame, topic.event_time
    if name is None:
        times = pl.Series(timestamps, dtype=pl.Int64)
        bad = (timestamps < 0) | (timestamps >= MAX_TIME)
    else:
        times = event_times(frame[name])
        bad = bad_times(times, timestamps, topic.future_max_ms)
    if not bad.any():
        return decoded, times.to_numpy(), []
    rows = np.arange(frame.height, dtype=np.int64) if decoded.rows is None else decoded.rows
    reasons = [
        Rejected(
            int(rows[at]),
            "event_time",
            f"the record's timestamp is {int(timestamps[at])}, and its topic has no event_time column"
            if name is None
            else why_bad(times[int(at)], int(timestamps[at]), topic.future_max_ms, name),
        )
        for at in np.flatnonzero(bad)
    ]
    good = ~bad
    kept = Decoded(frame.filter(pl.Series(good)), rows[good], decoded.bad)
    return kept, times.filter(pl.Series(good)).to_numpy(), reasons
