"""The interval join against the record-at-a-time oracle: random disorder, lateness, batches, watermarks, crashes."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.topics.batch import MAX_TIME
from millstream.topics.batch import MIN_TIME as NOTHING
from millstream.workers.operators.interval_join import How, IntervalJoin
from tests.oracles.interval_join import Given, Row, all_on_time, interval_join
from tests.workers.join_run import ONE_KEY, TWO_KEYS, Run, play

HOWS: list[How] = ["inner", "left", "right", "outer"]


@dataclass(frozen=True)
class Case:
    events: list[Row | int]
    lower: int
    upper: int
    how: How
    grace: int

    @property
    def rows(self) -> list[Row]:
        return [event for event in self.events if isinstance(event, Row)]

    def expected(self) -> Given:
        return interval_join([*self.events, MAX_TIME], self.lower, self.upper, self.how, self.grace)


def case(seed: int, *, late: bool, keys: int | None = None, scale: int = 1) -> Case:
    """Two partitions, one a side, with clocks that drift apart and jump; the task's watermark is the smaller of theirs."""
    chance = random.Random(seed)
    out_of_order, grace = chance.choice([0, 5, 40]) * scale, chance.choice([0, 3, 20]) * scale
    lower = chance.randrange(-60, 60) * scale
    upper = lower + chance.randrange(0, 80) * scale
    names = [f"k{number}" for number in range(keys or chance.choice([1, 2, 5, 30]))]
    clock, newest = [chance.randrange(-100, 100) * scale] * 2, [NOTHING, NOTHING]
    events: list[Row | int] = []
    reached = NOTHING
    for value in range(chance.randrange(1, 120)):
        side = chance.randrange(2)
        clock[side] += chance.randrange(0, 6) * scale
        if chance.random() < 0.05:
            clock[side] += chance.randrange(0, 300) * scale
        before = max(newest[side] - out_of_order, NOTHING)
        time = clock[side] - chance.randrange(0, out_of_order + grace + 1)
        if not late:
            time = max(time, before - grace)
        elif chance.random() < 0.2:
            time -= chance.choice([1, 10, 100, 1000]) * scale
        key = (chance.choice(names) if chance.random() < 0.95 else None,)
        events.append(Row(side, key, time, value, before))
        newest[side] = max(newest[side], time)
        if NOTHING not in newest and chance.random() < 0.5:
            ahead = min(newest) - out_of_order
            if ahead > reached:
                reached = ahead
                events.append(ahead)
    return Case(events, lower, upper, chance.choice(HOWS), grace)


def join_of(one: Case, on: tuple[str, ...] = ("k",)) -> IntervalJoin:
    return IntervalJoin(on, one.lower, one.upper, one.how, one.grace)


@settings(max_examples=80)
@given(st.integers(0, 1 << 40))
def test_rows_on_time_give_the_same_in_any_order(seed: int) -> None:
    """Every pair once, every unmatched row of an outer side once, whatever the batches, watermarks and crashes."""
    one = case(seed, late=False)
    found = play(one.events, Run(join_of(one)), random.Random(seed), crashes=True)
    assert found == all_on_time(one.rows, one.lower, one.upper, one.how)


@settings(max_examples=80)
@given(st.integers(0, 1 << 40))
def test_late_rows_join_what_is_kept(seed: int) -> None:
    """As record by record: late rows pair with partners still kept, else are padded or given as late, and never kept."""
    one = case(seed, late=True)
    run = Run(join_of(one))
    found = play(one.events, run, random.Random(seed), crashes=True)
    assert found == one.expected()


@settings(max_examples=30)
@given(st.integers(0, 1 << 40))
def test_late_rows_are_counted_once(seed: int) -> None:
    one = case(seed, late=True)
    run = Run(join_of(one))
    found = play(one.events, run, random.Random(seed), crashes=False)
    counts = run.counts.counts
    assert counts.get("late_rows", 0) + counts.get("late_rows.partition_woke", 0) == len(found.late)
    assert counts.get("padded_rows", 0) == len(found.padded[0]) + len(found.padded[1])


@settings(max_examples=30)
@given(st.integers(0, 1 << 40), st.sampled_from([10**6, 10**9, 10**12]))
def test_gaps_of_years(seed: int, scale: int) -> None:
    """Times spread over more than 32 bits of milliseconds, within a batch and between batches; negative ones too."""
    one = case(seed, late=True, scale=scale)
    assert play(one.events, Run(join_of(one)), random.Random(seed), crashes=True) == one.expected()


@settings(max_examples=30)
@given(st.integers(0, 1 << 40), st.integers(1, 10**8))
def test_narrow_bounds_and_sparse_rows(seed: int, scale: int) -> None:
    """Bounds of a few milliseconds, rows hours apart: buckets widen on the way."""
    wide = case(seed, late=True, scale=scale)
    one = Case(wide.events, -3, 3, wide.how, wide.grace)
    assert play(one.events, Run(join_of(one)), random.Random(seed), crashes=True) == one.expected()


@settings(max_examples=30)
@given(st.integers(0, 1 << 40))
def test_several_key_columns(seed: int) -> None:
    """A null in any of them matches nothing."""
    plain, chance = case(seed, late=True, keys=2), random.Random(seed)
    events: list[Row | int] = [
        Row(event.side, (*event.key, chance.choice([0, 1, None])), event.time, event.value, event.before)
        if isinstance(event, Row)
        else event
        for event in plain.events
    ]
    one = Case(events, plain.lower, plain.upper, plain.how, plain.grace)
    found = play(one.events, Run(join_of(one, ("k", "n")), TWO_KEYS), chance, crashes=True)
    assert found == one.expected()


@pytest.mark.parametrize("how", HOWS)
@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 40))
def test_equal_hashes_are_not_equal_keys(how: How, seed: int) -> None:
    """With every hash the same, the keys alone decide."""
    import numpy as np

    import millstream.state.join_sides as sides
    import millstream.workers.operators.interval_join as join

    drawn = case(seed, late=True)
    one = Case(drawn.events, drawn.lower, drawn.upper, how, drawn.grace)
    with pytest.MonkeyPatch.context() as patch:
        for place in (join, sides):
            patch.setattr(place, "key_hashes", lambda frame, on: np.zeros(frame.height, np.uint64))
        found = play(one.events, Run(join_of(one), ONE_KEY), random.Random(seed), crashes=True)
    assert found == one.expected()
