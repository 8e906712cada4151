"""Places among codes that begin with a hash: those that numpy's `searchsorted` gives, however the codes are spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.native.hash_search import CODES_MIN, HashStarts, hash_starts
from millstream.native.loader import library

pytestmark = pytest.mark.skipif(library() is None, reason="the native library was not built")

CODES = st.one_of(st.integers(0, (1 << 64) - 1), st.integers(0, 50), st.sampled_from([0, 1 << 63, (1 << 64) - 1]))


@given(st.lists(CODES, max_size=60), st.lists(CODES, max_size=30), st.booleans())
def test_places_are_those_of_searchsorted(codes: list[int], needles: list[int], right: bool) -> None:
    ascending, sought = np.sort(np.array(codes, np.uint64)), np.array([*needles, *codes], np.uint64)
    found = HashStarts(ascending).places(ascending, sought, right=right)
    assert found.tolist() == ascending.searchsorted(sought, "right" if right else "left").tolist()


@pytest.mark.parametrize("hashes", [200_000, 3, 1])
def test_many_codes_evenly_spread_or_nearly_all_of_one_hash(hashes: int) -> None:
    draw = np.random.default_rng(hashes)
    high = draw.integers(0, 1 << 32, hashes, np.uint64)[draw.integers(0, hashes, 200_000)] << np.uint64(32)
    codes = np.sort(high | draw.integers(0, 1 << 32, len(high), np.uint64))
    needles = np.concatenate([codes[::7], draw.integers(0, 1 << 63, 20_000, np.uint64)])
    starts = hash_starts(codes)
    assert starts is not None
    for right, side in ((False, "left"), (True, "right")):
        assert (starts.places(codes, needles, right=right) == codes.searchsorted(needles, side)).all()  # type: ignore[call-overload]


def test_few_codes_are_searched_without() -> None:
    assert hash_starts(np.arange(CODES_MIN - 1, dtype=np.uint64)) is None
    assert hash_starts(np.arange(CODES_MIN, dtype=np.uint64)) is not None
