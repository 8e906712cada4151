"""The order of key bytes is the order of the values, and nothing is lost on the way."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.state.keys import (
    bytes_key,
    int_key,
    int_keys,
    key_int,
    key_tuple,
    prefix_stop,
    split_window_keys,
    text_key,
    tuple_key,
    window_keys,
)

INTS = st.integers(-(1 << 63), (1 << 63) - 1)
BYTES = st.binary(max_size=6) | st.lists(st.sampled_from([0, 1, 254, 255]), max_size=5).map(bytes)
TEXTS = st.text(max_size=5) | st.text("\0\x01a\uffff\U00010000", max_size=4)


@given(INTS, INTS)
def test_integers_keep_their_order(a: int, b: int) -> None:
    assert ((int_key(a) < int_key(b)), key_int(int_key(a))) == (a < b, a)


@given(TEXTS, TEXTS)
def test_texts_keep_their_order(a: str, b: str) -> None:
    """By code points, as Python orders them."""
    assert (text_key(a) < text_key(b)) == (a < b)


@given(BYTES, BYTES)
def test_bytes_keep_their_order(a: bytes, b: bytes) -> None:
    assert (bytes_key(a) < bytes_key(b)) == (a < b)


TUPLES = st.tuples(TEXTS, INTS, BYTES, TEXTS)


@given(TUPLES, TUPLES)
def test_tuples_keep_their_order_and_come_back(a: tuple[str, int, bytes, str], b: tuple[str, int, bytes, str]) -> None:
    assert (tuple_key(a) < tuple_key(b)) == (a < b)
    assert key_tuple(tuple_key(a), (str, int, bytes, str)) == a


@given(TEXTS, TEXTS, TEXTS)
def test_a_tuple_of_a_prefix_begins_with_its_key(a: str, b: str, c: str) -> None:
    """All entries of ("a",) stand between its key and `prefix_stop` of it, and no others."""
    start = tuple_key((a,))
    stop = prefix_stop(start)
    assert stop is not None
    assert (start <= tuple_key((c, b)) < stop) == (a == c)


@pytest.mark.parametrize(
    ("prefix", "stop"),
    [(b"", None), (b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", None), (b"\x00", b"\x01"), (b"a\xffb", b"a\xffc")],
)
def test_prefix_stop(prefix: bytes, stop: bytes | None) -> None:
    assert prefix_stop(prefix) == stop


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1])
def test_an_integer_of_more_than_64_bits_is_refused(value: int) -> None:
    with pytest.raises(OverflowError, match=str(value)):
        int_key(value)


@pytest.mark.parametrize(
    ("key", "types", "text"),
    [
        (b"abc", (int,), "no 64-bit integer at byte 0"),
        (b"abc", (str,), "text without an end at byte 0"),
        (b"a\0\0b", (str,), "1 bytes too many"),
    ],
)
def test_bytes_that_are_no_key_are_refused(key: bytes, types: tuple[type, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        key_tuple(key, types)


@given(st.lists(st.tuples(INTS, BYTES), max_size=20), st.integers(0, 3))
def test_columns_are_as_one_at_a_time(pairs: list[tuple[int, bytes]], skipped: int) -> None:
    """Also of a slice of a column, whose buffers begin earlier."""
    keys = pa.array([key for _, key in pairs], pa.large_binary()).slice(min(skipped, len(pairs)))
    ends = np.array([end for end, _ in pairs[skipped:]], np.int64)
    wanted = [int_key(end) + key for end, key in pairs[skipped:]]
    made = window_keys(ends, keys)
    assert made.to_pylist() == wanted
    assert int_keys(ends).to_pylist() == [int_key(end) for end, _ in pairs[skipped:]]
    back_ends, back_keys = split_window_keys(made)
    assert (back_ends.tolist(), back_keys.to_pylist()) == (ends.tolist(), keys.to_pylist())
    assert split_window_keys(made.slice(1))[0].tolist() == ends[1:].tolist()


def test_a_short_window_key_is_refused() -> None:
    with pytest.raises(ValueError, match="found one of 3"):
        split_window_keys(pa.array([b"12345678", b"123"], pa.large_binary()))
