"""The window join against the record-at-a-time oracle: random disorder, lateness, batches, watermarks, crashes."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from millstream import hopping, session, tumbling
from millstream.state import row_chunks, row_side
from millstream.topics.batch import MAX_TIME
from millstream.topics.batch import MIN_TIME as NOTHING
from millstream.workers import joined_windows
from millstream.workers.operators import window_join as module
from millstream.workers.operators.interval_join import How
from millstream.workers.operators.window_join import WindowJoin
from millstream.workers.window import Window
from tests.oracles.window_join import Given, Grid, Row, Rules, all_on_time, window_join
from tests.workers.waiting_join_run import Run, play

HOWS: list[How] = ["inner", "left", "right", "outer"]


@dataclass(frozen=True)
class Case:
    events: list[Row | int]
    step: WindowJoin
    rules: Rules

    @property
    def rows(self) -> list[Row]:
        return [event for event in self.events if isinstance(event, Row)]

    def expected(self) -> Given:
        return window_join([*self.events, MAX_TIME], self.rules)


def window_of(chance: random.Random, scale: int) -> tuple[Window, Grid | int]:
    size, hop, offset = (chance.randrange(1, 60) * scale, chance.randrange(5, 70) * scale, chance.randrange(-9, 9))
    kind = chance.choice(["tumbling", "hopping", "session"])
    if kind == "session":
        return session(size), size
    if kind == "tumbling":
        return tumbling(size, offset), (size, size, offset)
    return hopping(size, hop, offset), (size, hop, offset)


def case(seed: int, *, late: bool, scale: int = 1) -> Case:
    """Two partitions, one a side, with clocks that drift apart and jump; the task's watermark is the smaller of theirs."""
    chance = random.Random(seed)
    out_of_order, grace = chance.choice([0, 5, 40]) * scale, chance.choice([0, 3, 20]) * scale
    window, sizes = window_of(chance, scale)
    how = chance.choice(HOWS)
    names = [f"k{number}" for number in range(chance.choice([1, 2, 5, 30]))]
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
        key = chance.choice(names) if chance.random() < 0.95 else None
        events.append(Row(side, key, time, value, before))
        newest[side] = max(newest[side], time)
        if NOTHING not in newest and chance.random() < 0.5:
            ahead = min(newest) - out_of_order
            if ahead > reached:
                reached = ahead
                events.append(ahead)
    return Case(events, WindowJoin(window, ("k",), how, grace), Rules(sizes, how, grace))


def found(run: Run) -> Given:
    rows = [(row["window_start"], row["window_end"], row["v"], row["v_right"]) for row in run.given.rows]
    assert all(row["__time"] == row["window_end"] - 1 for row in run.given.rows)
    return Given(rows, [row["v"] if row["v"] is not None else row["v_right"] for row in run.late]).sorted()


@settings(max_examples=150)
@given(st.integers(0, 1 << 40))
def test_rows_on_time_give_the_same_in_any_order(seed: int) -> None:
    """Every pair of a window once, every unmatched row of an outer side once, whatever the batches, watermarks and crashes."""
    one = case(seed, late=False)
    run = play(one.events, Run(one.step), random.Random(seed), crashes=True)
    assert found(run) == Given(all_on_time(one.rows, one.rules))


@settings(max_examples=200)
@given(st.integers(0, 1 << 40), st.booleans())
def test_as_record_by_record(seed: int, crashes: bool) -> None:
    """A row counts in the windows it is not late for; one late for all is given as late, and is in no result."""
    one = case(seed, late=True)
    expected = one.expected()
    assume(not expected.crowded)
    assert found(play(one.events, Run(one.step), random.Random(seed), crashes=crashes)) == expected


@pytest.mark.parametrize("scale", [1, 1 << 33])
def test_wide_times_and_small_pieces(monkeypatch: pytest.MonkeyPatch, scale: int) -> None:
    """Windows far apart; chunks merged, blocks written again, windows cut in halves and pairs in threes at every turn."""
    monkeypatch.setattr(row_side, "_GARBAGE_ROWS_MIN", 3)
    monkeypatch.setattr(row_side, "_BLOCKS_A_MERGE", 2)
    monkeypatch.setattr(row_chunks, "_FAN_IN", 2)
    monkeypatch.setattr(joined_windows, "_MEMBERS_MAX", 4)
    monkeypatch.setattr(module, "PAIRS_MAX", 3)
    for seed in range(100):
        one = case(seed, late=True, scale=scale)
        expected = one.expected()
        if not expected.crowded:
            run = play(one.events, Run(one.step), random.Random(seed), crashes=True)
            assert found(run) == expected, seed


def test_sessions_less_than_a_gap_apart_lose_no_row() -> None:
    """Rows beyond grace: every row is given once all the same, with a session that is of its key."""
    crowded = 0
    for seed in range(1_500):
        one = case(seed, late=True)
        if not isinstance(one.rules.window, int):
            continue
        one = replace(one, step=replace(one.step, how="outer"), rules=replace(one.rules, how="outer"))
        if one.expected().crowded:
            crowded += 1
            run = play(one.events, Run(one.step), random.Random(seed), crashes=True)
            late = found(run).late
            seen = {value for row in run.given.rows for value in (row["v"], row["v_right"]) if value is not None}
            assert seen | set(late) == {row.value for row in one.rows}
            assert not seen & set(late)
    assert crowded > 3


def test_everything_is_freed() -> None:
    """When the watermark has passed everything nothing is left, in memory or in the changelog."""
    for seed in range(40):
        one = case(seed, late=True)
        run = play(one.events, Run(one.step), random.Random(seed), crashes=True)
        run.checkpoint()
        log = run.operator.states[0]
        assert (log.rows(0), log.rows(1)) == (0, 0)  # type: ignore[attr-defined]
        for name, closed in (("join", b"W"), ("sessions", b"\x00closed")):
            left = [key for changes in run.database.store(name).scan() for key, _ in changes.pairs()]
            assert set(left) <= {closed}
