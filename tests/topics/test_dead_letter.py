"""Dead letters: the original record and where it came from."""

from __future__ import annotations

import numpy as np

from millstream.topics.batch import Fetch, Headers, Partition
from millstream.topics.dead_letter import Rejected, dead_letter_records


def fetch_of(value: bytes | None, key: bytes | None = b"k", headers: Headers = ()) -> Fetch:
    return Fetch(
        partition=Partition("orders", 2),
        first_offset=40,
        next_offset=43,
        end_offset=50,
        keys=[None, key],
        values=[b"before", value],
        offsets=np.array([40, 42]),
        timestamps=np.array([1_000, 2_000]),
        headers={1: headers} if headers else {},
    )


REJECTED = Rejected(1, "decode", "expected int, got 'x' - at $.qty")


def test_it_is_the_original_with_headers_that_say_why() -> None:
    records = dead_letter_records(fetch_of(b"{", headers=(("trace", b"7"), ("none", None))), [REJECTED], app="shop")
    assert records.keys is not None
    assert records.keys.to_pylist() == [b"k"]
    assert records.values.to_pylist() == [b"{"]
    assert records.timestamps is not None
    assert records.timestamps.tolist() == [2_000]
    assert records.headers == [
        (
            ("trace", b"7"),
            ("none", None),
            ("__dead_letter.topic", b"orders"),
            ("__dead_letter.partition", b"2"),
            ("__dead_letter.offset", b"42"),
            ("__dead_letter.timestamp", b"2000"),
            ("__dead_letter.error", b"decode"),
            ("__dead_letter.reason", b"expected int, got 'x' - at $.qty"),
            ("__dead_letter.step", b"decode"),
            ("__dead_letter.app", b"shop"),
        )
    ]


def test_several_keep_their_order_and_null_keys_and_values() -> None:
    records = dead_letter_records(fetch_of(None, key=None), [REJECTED, Rejected(0, "function", "boom", "price")])
    assert records.keys is not None
    assert records.keys.to_pylist() == [None, None]
    assert records.values.to_pylist() == [None, b"before"]
    assert records.headers is not None
    assert [dict(headers)["__dead_letter.step"] for headers in records.headers] == [b"decode", b"price"]
    assert "__dead_letter.app" not in dict(records.headers[0])


def test_a_value_too_large_is_kept_by_reference() -> None:
    records = dead_letter_records(fetch_of(b"x" * 101), [REJECTED], record_bytes_max=100)
    assert records.values.to_pylist() == [None]
    assert records.keys is not None
    assert records.keys.to_pylist() == [b"k"]
    assert records.headers is not None
    assert dict(records.headers[0])["__dead_letter.value_bytes"] == b"101"
    assert dict(records.headers[0])["__dead_letter.offset"] == b"42"


def test_a_key_and_headers_too_large_go_the_same_way() -> None:
    fetch = fetch_of(b"v", key=b"k" * 101, headers=(("h", b"x" * 150),))
    records = dead_letter_records(fetch, [REJECTED], record_bytes_max=100)
    assert records.values.to_pylist() == [b"v"]
    assert records.keys is not None
    assert records.keys.to_pylist() == [None]
    assert records.headers is not None
    said = dict(records.headers[0])
    assert "h" not in said
    assert said["__dead_letter.header_bytes"] == b"151"
    assert said["__dead_letter.key_bytes"] == b"101"


def test_a_record_that_just_fits_is_written_whole() -> None:
    assert dead_letter_records(fetch_of(b"x" * 99), [REJECTED], record_bytes_max=100).values.to_pylist() == [b"x" * 99]


def test_a_reason_without_end_is_cut() -> None:
    records = dead_letter_records(fetch_of(b"v"), [Rejected(1, "decode", "x" * 100_000)])
    assert records.headers is not None
    assert len(dict(records.headers[0])["__dead_letter.reason"] or b"") == 4_096


def test_a_record_without_a_timestamp_gets_zero() -> None:
    fetch = fetch_of(b"v")
    fetch.timestamps[1] = -1
    records = dead_letter_records(fetch, [REJECTED])
    assert records.timestamps is not None
    assert records.timestamps.tolist() == [0]
    assert records.headers is not None
    assert dict(records.headers[0])["__dead_letter.timestamp"] == b"-1"
