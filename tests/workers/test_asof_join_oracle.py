"""The as-of join against the record-at-a-time oracle: random disorder, lateness, tombstones, batches, watermarks, crashes."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.state import row_chunks, row_side
from millstream.topics.batch import MAX_TIME
from millstream.topics.batch import MIN_TIME as NOTHING
from millstream.workers.operators.asof_join import AsofHow, AsofJoin, Direction
from tests.oracles.asof_join import Given, Row, Rules, all_on_time, asof_join
from tests.workers.waiting_join_run import Run, play

DIRECTIONS: list[Direction] = ["backward", "forward", "nearest"]
HOWS: list[AsofHow] = ["left", "inner"]


@dataclass(frozen=True)
class Case:
    events: list[Row | int]
    step: AsofJoin

    @property
    def rules(self) -> Rules:
        return Rules(self.step.direction, self.step.reach_ms, self.step.how, self.step.grace_ms)

    @property
    def rows(self) -> list[Row]:
        return [event for event in self.events if isinstance(event, Row)]


def case(seed: int, *, late: bool, scale: int = 1) -> Case:
    """Two partitions, one a side, with clocks that drift apart and jump; the task's watermark is the smaller of theirs."""
    chance = random.Random(seed)
    out_of_order, grace = chance.choice([0, 5, 40]) * scale, chance.choice([0, 3, 20]) * scale
    direction = chance.choice(DIRECTIONS)
    tolerance = chance.choice([0, 5, 60, *([None] * (direction == "backward"))])
    ttl = chance.choice([None, 30 * scale]) if direction == "backward" else None
    step = AsofJoin(
        ("k",), direction, None if tolerance is None else tolerance * scale, chance.choice(HOWS), grace, ttl_ms=ttl
    )
    names = [f"k{number}" for number in range(chance.choice([1, 2, 5, 30]))]
    clock, newest = [chance.randrange(-100, 100) * scale] * 2, [NOTHING, NOTHING]
    events: list[Row | int] = []
    reached = NOTHING
    deletes = chance.choice([0, 0, 0.2])
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
        key = chance.choice(names) if chance.random() < 0.95 else None
        events.append(Row(side, key, time, value, before, side == 1 and chance.random() < deletes))
        newest[side] = max(newest[side], time)
        if NOTHING not in newest and chance.random() < 0.5:
            ahead = min(newest) - out_of_order
            if ahead > reached:
                reached = ahead
                events.append(ahead)
    return Case(events, step)


def found(run: Run) -> Given:
    rows = [(row["v"], row["v_right"]) for row in run.given.rows]
    return Given(rows, [row["v"] if row["v"] is not None else row["v_right"] for row in run.late]).sorted()


@settings(max_examples=150)
@given(st.integers(0, 1 << 40))
def test_rows_on_time_give_the_same_in_any_order(seed: int) -> None:
    """Every left row with its match, once, whatever the batches, watermarks and crashes."""
    one = case(seed, late=False)
    run = play(one.events, Run(one.step), random.Random(seed), crashes=True)
    assert found(run) == all_on_time(one.rows, one.rules)


@settings(max_examples=150)
@given(st.integers(0, 1 << 40))
def test_as_record_by_record(seed: int) -> None:
    """Late left rows match nothing; late right rows are seen by the left rows that are not given yet."""
    one = case(seed, late=True)
    run = play(one.events, Run(one.step), random.Random(seed), crashes=False)
    assert found(run) == asof_join([*one.events, MAX_TIME], one.rules)


@settings(max_examples=100)
@given(st.integers(0, 1 << 40))
def test_a_crash_changes_nothing(seed: int) -> None:
    """Late rows and tombstones included: what was decided stays so, what was not is decided as without the crash."""
    one = case(seed, late=True)
    run = play(one.events, Run(one.step), random.Random(seed), crashes=True)
    assert found(run) == asof_join([*one.events, MAX_TIME], one.rules)


@pytest.mark.parametrize("scale", [1, 1 << 33])
def test_wide_times_and_small_pieces(monkeypatch: pytest.MonkeyPatch, scale: int) -> None:
    """Times too far apart to be packed with their keys; chunks merged, blocks written again, at every turn."""
    monkeypatch.setattr(row_side, "_GARBAGE_ROWS_MIN", 3)
    monkeypatch.setattr(row_side, "_BLOCKS_A_MERGE", 2)
    monkeypatch.setattr(row_chunks, "_FAN_IN", 2)
    for seed in range(60):
        one = case(seed, late=True, scale=scale)
        run = play(one.events, Run(one.step), random.Random(seed), crashes=True)
        assert found(run) == asof_join([*one.events, MAX_TIME], one.rules), seed


def test_everything_is_freed() -> None:
    """When the watermark has passed everything nothing is left, in memory or in the changelog, but the newest rows by key."""
    for seed in range(40):
        one = case(seed, late=True)
        run = play(one.events, Run(one.step), random.Random(seed), crashes=True)
        run.checkpoint()
        log = run.operator.states[0]
        assert (log.rows(0), log.rows(1)) == (0, 0)  # type: ignore[attr-defined]
        left = [key for changes in run.database.store("join").scan() for key, _ in changes.pairs()]
        assert left == [b"W"]
