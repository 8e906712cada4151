"""From a fetch to a batch: times, watermarks row by row, rejected records."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.topics.batch import BEFORE, MAX_TIME, MIN_TIME, OFFSET, TIME, Fetch, Partition
from millstream.topics.codec_of import codec_named
from millstream.topics.dead_letter import Rejected
from millstream.topics.decode import DecodedFetch, decode_fetch
from millstream.topics.errors import SchemaError
from millstream.topics.topic import Topic, topic

CLICKS = topic(
    "clicks", {"user": "string", "ts": "timestamp_ms"}, key="user", event_time="ts", out_of_order="2s", future_max="1h"
)
JSON = codec_named("json")


def fetch_of(values: list[bytes | None], timestamps: list[int] | None = None, first: int = 100) -> Fetch:
    count = len(values)
    return Fetch(
        partition=Partition("clicks", 3),
        first_offset=first,
        next_offset=first + count,
        end_offset=first + count,
        keys=[None] * count,
        values=values,
        offsets=np.arange(first, first + count, dtype=np.int64),
        timestamps=np.array(timestamps or [0] * count, dtype=np.int64),
    )


def click(ts: Any) -> bytes:
    return b'{"user":"a","ts":%s}' % str(ts).encode()


def decode(values: list[bytes | None], watermark: int = MIN_TIME, of: Topic = CLICKS, **more: Any) -> DecodedFetch:
    return decode_fetch(fetch_of(values, **more), of, JSON, watermark)


def test_rows_have_their_time_offset_and_the_watermark_before_them() -> None:
    decoded = decode([click(10_000), click(15_000), click(12_000), click(16_000)], watermark=9_000)
    assert decoded.batch.frame.columns == ["user", "ts", TIME, BEFORE, OFFSET]
    assert decoded.batch.frame.schema == {
        "user": pl.String, "ts": pl.Int64, TIME: pl.Int64, BEFORE: pl.Int64, OFFSET: pl.Int64,
    }  # fmt: skip
    assert decoded.batch.time.tolist() == [10_000, 15_000, 12_000, 16_000]
    assert decoded.batch.before.tolist() == [9_000, 9_000, 13_000, 13_000]
    assert decoded.batch.frame[OFFSET].to_list() == [100, 101, 102, 103]
    assert decoded.batch.origin == Partition("clicks", 3)
    assert decoded.watermark == 14_000
    assert list(decoded.rejected) == []


def test_no_records_leave_the_watermark() -> None:
    decoded = decode([], watermark=5)
    assert decoded.watermark == 5
    assert decoded.batch.frame.columns == ["user", "ts", TIME, BEFORE, OFFSET]
    assert len(decoded.batch) == 0


def test_what_is_bad_is_rejected_and_does_not_drag_the_watermark() -> None:
    hour = 3_600_000
    decoded = decode(
        [
            click(1),
            b"x",
            None,
            click("null"),
            click(hour + 1_001),
            click(hour + 1_000),
            click(2**63 - 1),
            click(-(2**63)),
            click(-5),
        ],
        timestamps=[1_000] * 9,
    )
    assert [(one.row, one.error) for one in decoded.rejected] == [
        (1, "decode"),
        (2, "null_value"),
        (3, "event_time"),
        (4, "event_time"),
        (6, "event_time"),
        (7, "event_time"),
    ]
    assert [one.reason for one in decoded.rejected][1:] == [
        "null value",
        "event time is null - at $.ts",
        "event time 3601001 is more than 1h ahead of the record's timestamp 1000 - at $.ts",
        "event time 9223372036854775807 is out of range - at $.ts",
        "event time -9223372036854775808 is out of range - at $.ts",
    ]
    assert decoded.batch.time.tolist() == [1, hour + 1_000, -5]
    assert decoded.batch.frame[OFFSET].to_list() == [100, 105, 108]
    assert decoded.batch.before.tolist() == [MIN_TIME, -1_999, hour - 1_000]
    assert decoded.watermark == hour - 1_000


def test_without_an_event_time_column_the_record_timestamp_is_the_time() -> None:
    plain = topic("clicks", {"user": "string"})
    decoded = decode([b"{}", b"{}", b"{}"], of=plain, timestamps=[7, -1, 9])
    assert decoded.batch.time.tolist() == [7, 9]
    assert list(decoded.rejected) == [
        Rejected(1, "event_time", "the record's timestamp is -1, and its topic has no event_time column")
    ]


def test_a_record_without_a_timestamp_is_not_judged_by_it() -> None:
    assert decode([click(10**15)], timestamps=[-1]).batch.time.tolist() == [10**15]


def test_a_datetime_column_is_the_time_in_milliseconds() -> None:
    """Floored, also below zero; unparsable times do not decode."""
    for unit in ("ms", "us", "ns"):
        of = topic("clicks", {"at": pl.Datetime(unit, "UTC")}, event_time="at")
        decoded = decode(
            [b'{"at":"1970-01-01T00:00:01.5Z"}', b'{"at":"1969-12-31T23:59:59.9995Z"}', b'{"at":"x"}'], of=of
        )
        assert decoded.batch.time.tolist() == [1_500, -1]
        assert [(one.row, one.error) for one in decoded.rejected] == [(2, "decode")]


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (topic("clicks"), "topic 'clicks' has no schema"),
        (
            topic("clicks", {"user": "string"}, event_time="user"),
            "column 'user': expected int64 milliseconds or a datetime",
        ),
    ],
)
def test_a_topic_that_cannot_be_read_is_refused(of: Topic, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        decode([b"{}"], of=of)


@given(
    st.lists(st.none() | st.integers(-10_000, 10_000_000), max_size=20),
    st.lists(st.integers(0, 20), max_size=4),
    st.sampled_from([MIN_TIME, 0, 5_000, MAX_TIME]),
)
def test_times_and_watermarks_do_not_depend_on_how_records_were_polled(
    times: list[int | None], cuts: list[int], watermark: int
) -> None:
    """Record by record, the watermark before each is the largest good time seen, less what may be out of order."""
    expected, running = [], watermark
    for offset, time in enumerate(times):
        if time is not None and time <= 3_600_000:
            expected.append((time, running, offset))
            running = max(running, time - 2_000)
    found, after = [], watermark
    edges = [0, *sorted(min(cut, len(times)) for cut in cuts), len(times)]
    for start, stop in itertools.pairwise(edges):
        values: list[bytes | None] = [click("null" if time is None else time) for time in times[start:stop]]
        decoded = decode(values, watermark=after, first=start)
        after = decoded.watermark
        found += decoded.batch.frame.select(TIME, BEFORE, OFFSET).rows()
    assert found == expected
    assert after == running
