"""From a fetch of a table's topic to a batch: upserts, and tombstones, of which only the key is known.

A record with a null value takes its key's row away: its key columns are read from the record's key, its other columns are null,
its event time is the record's timestamp, and `DELETED` is true. A tombstone whose key is null, or is not what the table's key
columns would make, is rejected as every bad record is. All rows are in the order of their offsets.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .batch import BEFORE, DELETED, MAX_TIME, OFFSET, TIME, Batch, Fetch
from .codec import Codec
from .control import taken
from .dead_letter import Rejected
from .decode import DecodedFetch, decode_fetch
from .errors import SchemaError
from .key import columns_of
from .schema import Schema
from .timestamps import watermarks
from .topic import Topic


def decode_table(fetch: Fetch, topic: Topic, codec: Codec, watermark: int) -> DecodedFetch:
    """As `decode_fetch`, with tombstones. Raises SchemaError when the topic has no schema or no key columns."""
    if topic.schema is None or not topic.key:
        raise SchemaError(f"topic {topic.name!r} is read as a table, so it needs a schema and key columns")
    gone = np.array([value is None for value in fetch.values], np.bool_)
    if not gone.any():
        return decode_fetch(fetch, topic, codec, watermark)
    given, tombs = np.flatnonzero(~gone), np.flatnonzero(gone)
    upserts = decode_fetch(taken(fetch, given), topic, codec, watermark)
    tombstones, rejected = _tombstones(taken(fetch, tombs), topic)
    frame = pl.concat([upserts.batch.frame.drop(BEFORE), tombstones], how="diagonal").sort(OFFSET)
    before, after = watermarks(frame[TIME].to_numpy(), watermark, topic.out_of_order_ms)
    names = [*topic.schema.names, TIME, BEFORE, OFFSET, DELETED]
    frame = frame.with_columns(pl.Series(BEFORE, before), pl.col(DELETED).fill_null(False)).select(names)
    told = [replace(one, row=int(given[one.row])) for one in upserts.rejected]
    told += [replace(one, row=int(tombs[one.row])) for one in rejected]
    return DecodedFetch(Batch(frame, fetch.partition), after, sorted(told, key=lambda one: one.row))


def _tombstones(fetch: Fetch, topic: Topic) -> tuple[pl.DataFrame, list[Rejected]]:
    """A row for each good one, and those that are not."""
    assert topic.schema is not None, "checked before"
    kinds = dict(topic.schema)
    schema = Schema(tuple((name, kinds[name]) for name in topic.key))
    keys, rejected, kept = _keys(fetch, schema)
    bad = (fetch.timestamps < 0) | (fetch.timestamps >= MAX_TIME)
    for row in [int(row) for row in np.flatnonzero(bad) if row in set(kept.tolist())]:
        rejected.append(Rejected(row, "event_time", f"the tombstone's timestamp is {int(fetch.timestamps[row])}"))
    good = ~bad[kept]
    rows = kept[good]
    ours = {TIME: fetch.timestamps[rows], OFFSET: fetch.offsets[rows]}
    columns = [pl.Series(name, values, dtype=pl.Int64) for name, values in ours.items()]
    frame = keys.filter(pl.Series(good)).hstack(columns).with_columns(pl.lit(value=True).alias(DELETED))
    return frame, rejected


def _keys(fetch: Fetch, schema: Schema) -> tuple[pl.DataFrame, list[Rejected], NDArray[np.int64]]:
    """The key columns of the tombstones whose keys can be read, one by one only where not all can."""
    whole = pl.Series("key", list(fetch.keys), dtype=pl.Binary)
    if not whole.null_count():
        try:
            return columns_of(whole, schema), [], np.arange(len(whole))
        except SchemaError:
            pass  # which of them, is found below
    frames, rejected, kept = [Schema.empty(schema)], [], []
    for row, key in enumerate(fetch.keys):
        try:
            if key is None:
                raise SchemaError("a tombstone without a key takes nothing away")
            frames.append(columns_of(pl.Series("key", [key], dtype=pl.Binary), schema))
            kept.append(row)
        except SchemaError as error:
            rejected.append(Rejected(row, "decode", f"tombstone: {error}"))
    return pl.concat(frames), rejected, np.array(kept, np.int64)
