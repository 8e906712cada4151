"""JoinBuffer against a list: rows dense and sparse, in any batches, while buckets widen and runs merge."""

from __future__ import annotations

import random

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.state.buffers import JoinBuffer, Kept, key_hashes, sort_order

NOTHING = np.empty(0, np.bool_), np.empty(0, np.int64)


def kept(rows: list[tuple[str, int]], *, first: int, outer: bool) -> Kept:
    frame = pl.DataFrame(
        {"k": [key for key, _ in rows], "v": range(first, first + len(rows))}, schema={"k": pl.String, "v": pl.Int64}
    )
    times = np.array([time for _, time in rows], np.int64)
    marks = (np.zeros(len(rows), np.bool_), np.arange(first, first + len(rows))) if outer else NOTHING
    return Kept(frame, key_hashes(frame, ["k"]), times, *marks)


def found(buffer: JoinBuffer, key: str, lower: int, upper: int, pairs_max: int) -> list[int]:
    high = key_hashes(pl.DataFrame({"k": [key]}), ["k"])
    parts = list(buffer.probe(high, np.array([lower]), np.array([upper]), np.array([0]), pairs_max))
    assert all(len(part.rows) <= pairs_max for part in parts)
    return sorted(value for part in parts for value in part.run.frame["v"].gather(part.rows).to_list())


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 40),
    span=st.sampled_from([1, 100, 10**6, 10**13]),
    steps=st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from([1, 50, 10**4, 10**8, 10**11])), min_size=1, max_size=8
    ),
    outer=st.booleans(),
)
def test_it_finds_what_a_list_would(seed: int, span: int, steps: list[tuple[int, int]], outer: bool) -> None:
    """Every row is looked for by its own time and a little around it; the watermark rises in between."""
    chance, buffer = random.Random(seed), JoinBuffer(span, span, outer)
    model: list[tuple[str, int, int]] = []
    first, newest, watermark = 0, 0, -(1 << 62)
    for count, stride in steps:
        times = [newest + chance.randrange(-stride, 3 * stride) for _ in range(count)]
        times = [max(time, watermark - span) for time in times]
        rows = [(chance.choice("abc"), time) for time in times]
        part = kept(rows, first=first, outer=outer)
        buffer.insert(part, sort_order(part.high, part.times))
        model += [(key, time, first + number) for number, (key, time) in enumerate(rows)]
        newest, first = max(newest, *times), first + count
        for key, time, _ in chance.sample(model, min(12, len(model))):
            lower, upper = time - chance.randrange(3), time + chance.choice([0, 1, stride, 10 * stride])
            wanted = sorted(v for k, t, v in model if k == key and lower <= t <= upper)
            assert found(buffer, key, lower, upper, chance.choice([1, 3, 1_000])) == wanted
        if chance.random() < 0.5:
            watermark = max(watermark, newest - chance.randrange(2 * stride))
            expired = [value for frame, _ in buffer.advance(watermark) for value in frame["v"]]
            gone = sorted(value for _, time, value in model if time < watermark - span)
            assert sorted(expired) == (gone if outer else [])
            model = [row for row in model if row[1] >= watermark - span]
    assert buffer.rows >= len(model)
    list(buffer.advance(1 << 61))
    assert (buffer.rows, buffer.runs, buffer.size_bytes) == (0, 0, 0)


def test_the_order_is_right_for_any_span() -> None:
    """By hash, then by time, also where times are more than 32 bits apart."""
    chance = np.random.default_rng(5)
    for span in (10, 1 << 31, 1 << 33, 1 << 60):
        high = chance.integers(0, 3, 200).astype(np.uint64) << np.uint64(32)
        times = chance.integers(-span, span, 200)
        order = sort_order(high, times)
        pairs = [(int(high[at]), int(times[at])) for at in order]
        assert pairs == sorted(pairs)


def test_a_bucket_that_time_has_left_is_one_run() -> None:
    """However many batches came, so a longer history is not looked through in more runs a bucket."""
    buffer, batches = JoinBuffer(4_000, 4_000, outer=True), 0
    for begin in range(0, 3_000, 10):
        buffer.insert(kept([("abc"[at % 3], begin + at) for at in range(10)], first=begin, outer=True))
        batches += 1
    newest = buffer.runs - 2  # three buckets of 1,000 ms, of which two are left behind
    assert 1 <= newest <= 12 < batches
    assert found(buffer, "a", 0, 3_000, 10_000) == [begin + at for begin in range(0, 3_000, 10) for at in (0, 3, 6, 9)]
    buffer.insert(kept([("a", 500)], first=9_999, outer=True))
    assert found(buffer, "a", 500, 500, 10) == [500, 9_999]


def test_what_left_memory_stays_there_when_time_goes_on() -> None:
    """And no run becomes larger than was said."""
    buffer = JoinBuffer(4_000, 4_000, outer=False)
    for begin in range(0, 2_000, 100):
        buffer.run_bytes_max = 4_000
        buffer.insert(kept([("a", begin + at) for at in range(100)], first=begin, outer=False))
    assert max(run.size_bytes for run in buffer._runs()) <= 4_000
    assert found(buffer, "a", 0, 2_000, 10_000) == list(range(2_000))
