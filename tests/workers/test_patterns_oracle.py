"""Deduplicate, followed by and not followed by against the record-at-a-time oracles: disorder, lateness, batches, crashes."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from millstream.state import block_log, following, join_sides
from millstream.topics.batch import MIN_TIME as NOTHING
from millstream.workers.operators.deduplicate import Deduplicate, Keep
from millstream.workers.operators.followed_by import FollowedBy
from millstream.workers.operators.not_followed_by import NotFollowedBy
from tests.oracles import patterns as oracle
from tests.oracles.patterns import Given, Row
from tests.workers.pattern_run import Pattern, Run, play

Seeds = st.integers(0, 1 << 40)
KINDS = ["first", "earliest", "followed", "not followed"]


@dataclass(frozen=True)
class Case:
    kind: str
    events: list[Row | int]
    within: int
    grace: int

    @property
    def step(self) -> Pattern:
        if self.kind in ("first", "earliest"):
            keep: Keep = "first" if self.kind == "first" else "earliest"
            return Deduplicate(("k",), self.within, keep, self.grace)
        made = FollowedBy if self.kind == "followed" else NotFollowedBy
        return made(("k",), self.within, self.grace)

    def expected(self, events: list[Row | int] | None = None) -> Given:
        events = self.events if events is None else events
        if self.kind in ("first", "earliest"):
            return oracle.deduplicate(events, self.within, self.kind, self.grace).sorted()
        find = oracle.followed_by if self.kind == "followed" else oracle.not_followed_by
        return find(events, self.within, self.grace).sorted()


def case(
    seed: int, kind: str, *, late: bool, keys: int | None = None, scale: int = 1, within: int | None = None
) -> Case:
    """Two partitions with clocks that drift apart and jump, and meet in equal times; the task's watermark is the smaller one."""
    chance = random.Random(seed)
    out_of_order, grace = chance.choice([0, 5, 40]) * scale, chance.choice([0, 3, 20]) * scale
    names = [f"k{number}" for number in range(keys or chance.choice([1, 2, 5, 30]))]
    clock, newest = [chance.randrange(-100, 100) * scale] * 2, [NOTHING, NOTHING]
    events: list[Row | int] = []
    reached = NOTHING
    for value in range(chance.randrange(1, 150)):
        partition = chance.randrange(2)
        clock[partition] += chance.randrange(0, 6) * scale
        if chance.random() < 0.05:
            clock[partition] += chance.randrange(0, 300) * scale
        before = max(newest[partition] - out_of_order, NOTHING)
        time = clock[partition] - chance.randrange(0, out_of_order + grace + 1)
        if not late:
            time = max(time, before - grace)
        elif chance.random() < 0.2:
            time -= chance.choice([1, 10, 100, 1000]) * scale
        key = chance.choice(names) if chance.random() < 0.95 else None
        side = partition if kind in ("followed", "not followed") else 0
        events.append(Row(side, key, time, value, before))
        newest[partition] = max(newest[partition], time)
        if NOTHING not in newest and chance.random() < 0.5 and min(newest) - out_of_order > reached:
            reached = min(newest) - out_of_order
            events.append(reached)
    return Case(kind, events, within or chance.choice([1, 2, 10, 50, 200]) * scale, grace)


def found_of(one: Case, seed: int, *, crashes: bool = True) -> Given:
    run = Run(one.step)
    found = play(one.events, run, random.Random(seed), crashes=crashes)
    if crashes:  # counts are told anew after a crash
        return replace(found, duplicates=one.expected().duplicates)
    return replace(found, duplicates=run.counts.counts.get("duplicate_rows", 0))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(seed=Seeds)
def test_as_record_by_record(kind: str, seed: int) -> None:
    """Rows on time give what the oracle gives, late ones are given as late, whatever the batches, watermarks and crashes."""
    one = case(seed, kind, late=True)
    assert found_of(one, seed) == one.expected()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(seed=Seeds)
def test_what_is_counted(kind: str, seed: int) -> None:
    """Duplicates and late rows are counted once; rows without a key are rejected, or counted where they match nothing."""
    one = case(seed, kind, late=True)
    run = Run(one.step)
    found = play(one.events, run, random.Random(seed), crashes=False)
    counts, expected = run.counts.counts, one.expected()
    assert counts.get("duplicate_rows", 0) == expected.duplicates
    assert counts.get("late_rows", 0) + counts.get("late_rows.partition_woke", 0) == len(found.late)
    nulls = [event for event in one.events if isinstance(event, Row) and event.key is None]
    if kind in ("first", "earliest"):
        assert len(run.counts.rejected) == len(nulls)
    else:
        assert counts.get("null_key_rows", 0) == len([row for row in nulls if row.value not in found.late])


@pytest.mark.parametrize("kind", ["earliest", "followed", "not followed"])
@settings(max_examples=40)
@given(seed=Seeds)
def test_any_order_of_arrival_gives_the_same(kind: str, seed: int) -> None:
    """Bounded run = streaming run: all rows shuffled (in order within a key and time), none late, no watermark until the end."""
    one = case(seed, kind, late=False)
    chance = random.Random(seed)
    rows = [replace(event, before=NOTHING) for event in one.events if isinstance(event, Row)]
    places: dict[tuple[int, object, int], list[Row]] = {}
    for row in rows:
        places.setdefault((row.side, row.key, row.time), []).append(row)
    chance.shuffle(rows)
    again = [places[row.side, row.key, row.time].pop(0) for row in rows]
    streamed = play(one.events, Run(one.step), random.Random(seed), crashes=True)
    bounded = play(again, Run(one.step), chance, crashes=False)
    assert streamed.late == []
    assert bounded.results == streamed.results


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(seed=Seeds, scale=st.sampled_from([10**6, 10**9, 10**12]))
def test_gaps_of_years(kind: str, seed: int, scale: int) -> None:
    """Times spread over more than 32 bits of milliseconds, within a batch and between batches; negative ones too."""
    one = case(seed, kind, late=True, scale=scale)
    assert found_of(one, seed) == one.expected()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(seed=Seeds, scale=st.integers(1, 10**8))
def test_narrow_limits_and_sparse_rows(kind: str, seed: int, scale: int) -> None:
    """A limit of a few milliseconds, rows hours apart."""
    one = case(seed, kind, late=True, scale=scale, within=3)
    assert found_of(one, seed) == one.expected()


@pytest.mark.parametrize("kind", ["followed", "not followed"])
@settings(max_examples=30)
@given(seed=Seeds, bytes_max=st.sampled_from([0, 300, 3_000]))
def test_results_do_not_depend_on_where_rows_are(kind: str, seed: int, bytes_max: int) -> None:
    """Rows that wait to be followed are on disk, all or some; changelog blocks are merged after every other commit."""
    one = case(seed, kind, late=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_log, "FAN_IN", 2)
        run = Run(one.step, memory_bytes_max=bytes_max)
        assert play(one.events, run, random.Random(seed), crashes=True) == one.expected()


@pytest.mark.parametrize("kind", ["followed", "not followed"])
@settings(max_examples=20)
@given(seed=Seeds)
def test_equal_hashes_are_not_equal_keys(kind: str, seed: int) -> None:
    """With every hash the same, the keys alone decide."""
    one = case(seed, kind, late=True)
    with pytest.MonkeyPatch.context() as patch:
        for place in (following, join_sides):
            patch.setattr(place, "key_hashes", lambda frame, on: np.zeros(frame.height, np.uint64))
        assert play(one.events, Run(one.step), random.Random(seed), crashes=True) == one.expected()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(seed=Seeds)
def test_state_survives_the_loss_of_offsets(kind: str, seed: int) -> None:
    """With the committed watermark gone, that kept with the state counts: nothing is given twice, what was freed is not missed.

    Where nothing was ever kept there is no state to survive.
    """
    one = case(seed, kind, late=False)
    run, chance = Run(one.step), random.Random(seed)
    half = len(one.events) // 2
    play(one.events[:half], run, chance, crashes=False)
    run.commit()
    before = list(run.given.results)
    assume(run.entries())
    run.start(forget_offsets=True)
    for event in one.events:
        if isinstance(event, Row):
            run.rows([event])
    assert run.given.results == before
    repeated = [value for value in run.given.results if run.given.results.count(value) > 1]
    assert repeated == []
