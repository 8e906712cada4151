"""Texts get numbers in order of first sight, and give them back, as a Python dict would do it."""

from __future__ import annotations

import random
from itertools import islice
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.native import key_codes
from millstream.native.key_codes import TextCodes
from millstream.native.loader import library
from millstream.state.key_codes import _Native, _Polars

pytestmark = pytest.mark.skipif(library() is None, reason="the native library was not built")


class Oracle:
    """A dict."""

    def __init__(self) -> None:
        self.known: dict[bytes, int] = {}

    def codes(self, texts: list[bytes]) -> list[int]:
        return [self.known.setdefault(text, len(self.known)) for text in texts]


def binary(texts: list[bytes]) -> pa.LargeBinaryArray:
    return pa.array(texts, pa.large_binary())


TEXTS = st.lists(st.one_of(st.binary(max_size=3), st.binary(max_size=40), st.sampled_from([b"", b"a", b"\0", b"\0\0"])))


@given(st.lists(TEXTS, max_size=6), st.integers(0, 1 << 64))
def test_codes_are_those_of_a_dict_whatever_the_seed(batches: list[list[bytes]], seed: int) -> None:
    codes, oracle = TextCodes(seed), Oracle()
    for texts in batches:
        assert codes.codes(binary(texts)).tolist() == oracle.codes(texts)
    assert len(codes) == len(oracle.known)
    given_back = codes.texts(np.arange(len(codes))).cast(pa.large_binary()) if _is_text(oracle) else None
    assert given_back is None or given_back.to_pylist() == list(oracle.known)


def _is_text(oracle: Oracle) -> bool:
    """`texts` gives strings: bytes that are none are not asked for."""
    try:
        return all(text.decode() is not None for text in oracle.known)
    except UnicodeDecodeError:
        return False


def test_many_keys_with_equal_hashes_among_them() -> None:
    """Half a million: some thirty pairs of them have one hash of 32 bits; the table and the arena grow many times."""
    codes, keys = TextCodes(), [b"user-%d" % number for number in range(500_000)]
    chance = random.Random(7)
    chance.shuffle(keys)
    for first in range(0, len(keys), 77_777):
        batch = keys[first : first + 77_777]
        assert codes.codes(binary(batch)).tolist() == list(range(first, first + len(batch)))
    asked = [chance.randrange(len(keys)) for _ in range(50_000)]
    assert codes.codes(binary([keys[code] for code in asked])).tolist() == asked
    assert [str(text).encode() for text in codes.texts(np.array(asked)).to_pylist()] == [keys[code] for code in asked]


def test_long_texts_and_one_larger_than_all_room() -> None:
    codes = TextCodes()
    long = b"x" * 3_000_000
    assert codes.codes(binary([b"a", long, b"a", long, long + b"y"])).tolist() == [0, 1, 0, 1, 2]
    assert [len(str(text)) for text in codes.texts(np.array([1, 2, 0])).to_pylist()] == [3_000_000, 3_000_001, 1]


def test_a_slice_of_a_column_is_its_rows_alone() -> None:
    codes = TextCodes()
    assert codes.codes(binary([b"no", b"a", b"b", b"a", b"nor"]).slice(1, 3)).tolist() == [0, 1, 0]
    assert len(codes) == 2


def test_a_code_that_was_not_given_is_refused() -> None:
    codes = TextCodes()
    codes.codes(binary([b"a"]))
    with pytest.raises(IndexError, match="no text has the code 1"):
        codes.texts(np.array([0, 1]))
    assert codes.texts(np.array([], np.int64)).to_pylist() == []


def test_more_texts_than_codes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_codes, "CODES_MAX", 512)
    with pytest.raises(OverflowError, match="512 texts have codes already"):
        TextCodes().codes(binary([b"%d" % number for number in range(513)]))


BATCHES = st.lists(st.lists(st.text(max_size=20), max_size=30), max_size=5)


@given(BATCHES)
def test_without_the_library_the_codes_are_the_same(batches: list[list[str]]) -> None:
    """State restored where the library is missing is the same state."""
    native, polars = _Native(), _Polars()
    for texts in batches:
        keys = pl.Series(texts, dtype=pl.String)
        codes = native.codes(keys)
        assert codes.tolist() == polars.codes(keys).tolist()
        assert native.size == polars.size
        assert native.texts(codes).to_list() == polars.texts(codes).to_list() == texts


def test_keys_chosen_to_lie_in_one_place_do_so_for_one_seed_only() -> None:
    """Whoever sends keys does not know the seed of the process, so cannot make every look-up a long one."""
    crowded = list(islice(_crowded(0), 40))
    assert len({_slot(text, 0) for text in crowded}) == 1
    assert len({_slot(text, 12_345) for text in crowded}) > 20


def _crowded(seed: int) -> Any:
    number, wanted = 0, _slot(b"0", seed)
    while True:
        if _slot(text := b"%d" % number, seed) == wanted:
            yield text
        number += 1


def _slot(text: bytes, seed: int) -> int:
    """Where its entry is in a table of 1,024 that holds no other."""
    codes = TextCodes(seed)
    codes.codes(binary([text]))
    return int(np.flatnonzero(codes._table.view(np.uint64)[::2])[0])
