"""Sketches keep the error they promise; the hashes behind them are the same for ever, as registers are kept in state."""

from __future__ import annotations

import math
import random
from hashlib import blake2b
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.state.slots import Accumulator, pack, plain
from millstream.workers.reducers._hashing import LONG_BYTES, hashes
from millstream.workers.reducers.approx_distinct import ApproxDistinct
from millstream.workers.reducers.quantile import Quantile
from tests.oracles.reducers import exact_quantile

MASK = (1 << 64) - 1


def _mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def _hash_of(data: bytes) -> int:
    """Word by word, as the file's head has it."""
    if len(data) > LONG_BYTES:
        return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
    found = _mix(len(data))
    for at in range(0, len(data), 8):
        found = _mix(found ^ int.from_bytes(data[at : at + 8], "little"))
    return found


@given(
    st.lists(st.binary(max_size=40) | st.binary(min_size=LONG_BYTES - 2, max_size=LONG_BYTES + 2)), st.integers(0, 3)
)
def test_bytes_are_hashed_word_by_word_wherever_a_column_begins(values: list[bytes], skipped: int) -> None:
    column = pl.Series([b"?"] * skipped + values, dtype=pl.Binary)[skipped:]
    assert hashes(column, pl.Binary()).tolist() == [_hash_of(data) for data in values]


def test_hashes_never_change() -> None:
    """Another value here would count everything twice that is in a store."""
    assert hashes(pl.Series([0, 1, -1]), pl.Int64()).tolist() == [
        0xE220A8397B1DCDAF,
        0x910A2DEC89025CC1,
        0xE4D971771B652C20,
    ]
    assert hashes(pl.Series(["", "user-1"]), pl.String()).tolist() == [_hash_of(b""), _hash_of(b"user-1")]


def test_numbers_that_are_equal_have_one_hash() -> None:
    found = hashes(np.array([0.0, -0.0, math.nan, -math.nan, 1.0]), pl.Float64())
    assert len(set(found.tolist())) == 3


def _columns(kind: str, sketches: int, count: int) -> pl.Series:
    """`count` different values for each of so many sketches: a run of integers, text that differs in its last letters, floats."""
    numbers = np.arange(sketches * count)
    if kind == "text":
        return pl.Series([f"https://example.com/users/{number}" for number in numbers.tolist()])
    return pl.Series(numbers / 8 if kind == "floats" else numbers)


@pytest.mark.parametrize("kind", ["ints", "floats", "text"])
@pytest.mark.parametrize(("precision", "count"), [(6, 30), (6, 160), (6, 3_000), (10, 900), (10, 2_500), (12, 500)])
def test_a_number_of_distinct_values_is_within_the_standard_error(kind: str, precision: int, count: int) -> None:
    """1.04 / sqrt(m) is the error's root mean square over many sets; 100 sets tell it to about 7 %. And there is no bias."""
    reducer, sketches = ApproxDistinct("x", precision=precision), 100
    values = _columns(kind, sketches, count)
    held = reducer.accumulator(values.dtype)
    held.reserve(sketches)
    held.add(np.repeat(np.arange(sketches), count), plain(values), np.zeros(len(values), np.int64))
    errors = held.result(np.arange(sketches)).to_numpy() / count - 1
    assert math.sqrt(np.mean(errors**2)) <= 1.25 * reducer.standard_error
    assert abs(np.mean(errors)) <= 3 * reducer.standard_error / math.sqrt(sketches)


def test_a_million_values_take_no_more_room_than_a_thousand() -> None:
    reducer = ApproxDistinct("x")
    held = reducer.accumulator(pl.Int64())
    held.reserve(1)
    held.add(np.zeros(1_000_000, np.int64), np.arange(1_000_000), np.zeros(1_000_000, np.int64))
    (found,) = held.result(np.array([0]))
    assert abs(found / 1_000_000 - 1) <= 3 * reducer.standard_error
    (size,) = [len(value) for value in pack(held.encode(np.array([0]))).to_pylist() if value]
    assert size == 4 + 1 + 4_096


DRAWS: dict[str, Any] = {
    "uniform": lambda rng: rng.random(),
    "long tail": lambda rng: rng.paretovariate(0.5),
    "both signs": lambda rng: rng.gauss(0, 1e6),
    "few different": lambda rng: rng.choice([0.0, -3.5, 1e-9, 7.0]),
    "every size": lambda rng: rng.choice([-1, 1]) * 10 ** rng.uniform(-300, 300),
    "tiniest and largest": lambda rng: rng.choice([5e-324, 1e-310, 1.7e308, -5e-324, -1.7e308]),
    "one value": lambda rng: 42.0,
}
QUANTILES = [0.0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0]


def _sketch(reducer: Quantile, batches: list[list[float]]) -> Accumulator:
    held = reducer.accumulator(pl.Float64())
    held.reserve(1)
    for batch in batches:
        held.add(np.zeros(len(batch), np.int64), np.array(batch), np.zeros(len(batch), np.int64))
    return held


def _result(held: Accumulator) -> float:
    (result,) = held.result(np.array([0]))
    return float(result)


@pytest.mark.parametrize("error", [0.001, 0.01, 0.2])
@pytest.mark.parametrize("draw", DRAWS)
def test_a_quantile_is_within_the_relative_error(draw: str, error: float) -> None:
    rng = random.Random(f"{draw} {error}")
    values = [DRAWS[draw](rng) for _ in range(1_000)]
    for q in QUANTILES:
        result = _result(_sketch(Quantile("x", q, relative_error=error, bins_max=1 << 20), [values]))
        exact = exact_quantile(values, q)
        assert exact is not None
        assert abs(result - exact) <= error * abs(exact) * (1 + 1e-9) + 5e-324  # which the smallest floats are apart


def test_where_bins_are_put_together_high_quantiles_keep_their_error() -> None:
    """Of values over 18 decades, with bins for a few."""
    rng = random.Random(5)
    values = [10 ** rng.uniform(-9, 9) for _ in range(5_000)]
    high, low = (_sketch(Quantile("x", q, bins_max=512), [values]) for q in (0.9, 0.1))
    exact_high, exact_low = exact_quantile(values, 0.9), exact_quantile(values, 0.1)
    assert exact_high is not None
    assert exact_low is not None
    assert abs(_result(high) - exact_high) <= 0.01 * exact_high
    assert _result(low) > exact_low
    assert low.size_bytes == 16 * 512


@given(
    st.lists(st.integers(-30, 30).map(lambda n: math.copysign(1.5**n, n)), min_size=1), st.integers(1, 8), st.randoms()
)
def test_a_sketch_is_the_same_for_every_order_and_every_cut(
    values: list[float], bins_max: int, rng: random.Random
) -> None:
    """Also where bins are put together, and where it is merged from parts."""
    reducer = Quantile("x", 0.5, bins_max=bins_max)
    expected = pack(_sketch(reducer, [values]).encode(np.array([0])))
    shuffled = rng.sample(values, len(values))
    assert pack(_sketch(reducer, [[value] for value in shuffled]).encode(np.array([0]))).equals(expected)
    parts = reducer.accumulator(pl.Float64())
    parts.reserve(3)
    parts.add(np.array([rng.randrange(3) for _ in values]), np.array(values), np.zeros(len(values), np.int64))
    parts.merge(np.array([0, 0]), np.array([1, 2]))
    assert pack(parts.encode(np.array([0]))).equals(expected)
