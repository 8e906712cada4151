"""Control records: split off, or riding on data."""

from __future__ import annotations

import numpy as np
import pytest

from millstream.topics.batch import MAX_TIME, Fetch, Headers, Partition
from millstream.topics.control import ControlRecord, control_header, control_records, split_control

AT_5 = ControlRecord("clean", 3, 5)
END = ControlRecord("clean", 0, MAX_TIME, idle=True)


def fetch_of(*records: tuple[bytes | None, bytes | None, Headers]) -> Fetch:
    return Fetch(
        partition=Partition("by-user", 0),
        first_offset=10,
        next_offset=30,
        end_offset=40,
        keys=[key for key, _, _ in records],
        values=[value for _, value, _ in records],
        offsets=np.arange(10, 10 + len(records)),
        timestamps=np.arange(100, 100 + len(records)),
        headers={row: headers for row, (_, _, headers) in enumerate(records) if headers},
    )


def test_the_header_is_json() -> None:
    assert control_header(AT_5) == (("__watermark", b'{"from":"clean","shard":3,"watermark":5,"idle":false}'),)


def test_control_records_have_null_keys_and_empty_values() -> None:
    records = control_records([AT_5, END], timestamp_ms=7)
    assert records.keys is None
    assert records.values.to_pylist() == [b"", b""]
    assert records.headers == [control_header(AT_5), control_header(END)]
    assert records.timestamps is not None
    assert records.timestamps.tolist() == [7, 7]


def test_they_are_split_off_and_tell_how_many_rows_came_before() -> None:
    fetch, said = split_control(
        fetch_of(
            (b"a", b"1", ()),
            (None, b"", control_header(AT_5)),
            (b"b", b"2", (("trace", b"x"),)),
            (None, None, control_header(END)),
        )
    )
    assert said == [ControlRecord("clean", 3, 5, position=1), ControlRecord("clean", 0, MAX_TIME, True, position=2)]
    assert list(fetch.values) == [b"1", b"2"]
    assert list(fetch.keys) == [b"a", b"b"]
    assert fetch.offsets.tolist() == [10, 12]
    assert fetch.timestamps.tolist() == [100, 102]
    assert fetch.headers == {1: (("trace", b"x"),)}
    assert (fetch.first_offset, fetch.next_offset, fetch.end_offset) == (10, 30, 40)


@pytest.mark.parametrize(("key", "value"), [(b"a", b"1"), (None, b"1"), (b"a", b"")])
def test_one_that_rides_on_data_leaves_the_data(key: bytes | None, value: bytes) -> None:
    given = fetch_of((b"z", b"0", ()), (key, value, (("own", b"x"), *control_header(AT_5))))
    fetch, said = split_control(given)
    assert fetch is given
    assert said == [ControlRecord("clean", 3, 5, position=2)]


@pytest.mark.parametrize(
    "text",
    [None, b"", b"5", b"x", b"{}", b'{"from":1,"shard":3,"watermark":5,"idle":false}',
     b'{"from":"a","shard":3,"watermark":5.5,"idle":false}', b'{"from":"a","shard":true,"watermark":5,"idle":false}',
     b'{"from":"a","shard":3,"watermark":5}'],
)  # fmt: skip
def test_a_header_that_cannot_be_read_is_not_ours(text: bytes | None) -> None:
    given = fetch_of((None, b"", (("__watermark", text),)))
    assert split_control(given) == (given, [])


def test_a_fetch_without_headers_is_given_back() -> None:
    given = fetch_of((b"a", b"1", ()))
    assert split_control(given) == (given, [])


def test_a_fetch_of_control_records_only_is_empty_and_keeps_its_offsets() -> None:
    fetch, said = split_control(fetch_of((None, b"", control_header(AT_5))))
    assert len(fetch) == 0
    assert len(said) == 1
    assert fetch.next_offset == 30
