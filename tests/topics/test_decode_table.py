"""A topic read as a table: upserts and tombstones in the order of their offsets, and what is bad among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from millstream.topics.batch import DELETED, MIN_TIME, OFFSET, TIME, Fetch, Partition
from millstream.topics.codec_of import codec_named
from millstream.topics.decode import DecodedFetch
from millstream.topics.decode_table import decode_table
from millstream.topics.errors import SchemaError
from millstream.topics.topic import topic

USERS = topic("users", {"id": "int", "name": "string", "ts": "timestamp_ms"}, key="id", event_time="ts")


def decoded(records: Sequence[tuple[bytes | None, bytes | None, int]]) -> DecodedFetch:
    keys, values = [record[0] for record in records], [record[1] for record in records]
    times = [record[2] for record in records]
    offsets = np.arange(10, 10 + len(records))
    fetch = Fetch(Partition("users", 0), 10, 10 + len(records), 99, keys, values, offsets, np.array(times, np.int64))
    return decode_table(fetch, USERS, codec_named("json"), MIN_TIME)


def rows(result: DecodedFetch) -> list[tuple[object, ...]]:
    frame = result.batch.frame
    deleted = frame[DELETED] if DELETED in frame.columns else pl.Series([False] * frame.height)
    return [
        (*row, gone) for row, gone in zip(frame.select("id", "name", TIME, OFFSET).iter_rows(), deleted, strict=True)
    ]


def test_upserts_and_tombstones_in_the_order_of_offsets() -> None:
    result = decoded(
        [
            (b"[1]", b'{"id": 1, "name": "ada", "ts": 5}', 100),
            (b"[1]", None, 101),
            (b"[2]", b'{"id": 2, "name": "bob", "ts": 7}', 102),
            (b"[3]", None, 103),
            (b"[1]", b'{"id": 1, "name": "eve", "ts": 9}', 104),
        ]
    )
    assert rows(result) == [
        (1, "ada", 5, 10, False),
        (1, None, 101, 11, True),
        (2, "bob", 7, 12, False),
        (3, None, 103, 13, True),
        (1, "eve", 9, 14, False),
    ]
    assert result.rejected == []
    assert result.watermark == 103


def test_without_tombstones_nothing_is_added() -> None:
    result = decoded([(b"[1]", b'{"id": 1, "name": "ada", "ts": 5}', 100)])
    assert DELETED not in result.batch.frame.columns


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ((None, None, 5), "a tombstone without a key"),
        ((b"x", None, 5), "not JSON"),
        ((b"[1,2]", None, 5), "arrays of 1"),
        ((b'["a"]', None, 5), "expected"),
        ((b"\xff", None, 5), "UTF-8"),
        ((b"[1]", None, -1), "timestamp is -1"),
        ((b"[1]", b"{", 5), ""),
        ((b"[1]", b'{"id": 1, "name": "x", "ts": null}', 5), "null"),
    ],
)
def test_a_bad_record_costs_only_itself(record: tuple[bytes | None, bytes | None, int], reason: str) -> None:
    """Its neighbours, tombstones among them, are read."""
    result = decoded(
        [(b"[7]", None, 100), record, (b"[8]", b'{"id": 8, "name": "n", "ts": 8}', 100), (b"[9]", None, 100)]
    )
    assert [row[0] for row in rows(result)] == [7, 8, 9]
    (one,) = result.rejected
    assert one.row == 1
    assert reason in one.reason


def test_a_table_needs_a_key() -> None:
    fetch = Fetch(Partition("t", 0), 0, 0, 0, [], [], np.zeros(0, np.int64), np.zeros(0, np.int64))
    with pytest.raises(SchemaError, match="key columns"):
        decode_table(fetch, topic("t", {"id": "int"}), codec_named("json"), MIN_TIME)
