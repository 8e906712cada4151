"""Rows that wait for the watermark: given once, in order, whatever was restored from where."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.state import waiting_rows
from millstream.state.errors import CorruptStoreError, StateError
from millstream.state.store import Changes
from millstream.state.waiting_rows import WaitingRows

COLUMNS = {"v": pl.Int64(), "text": pl.String()}
WAIT = 7
NOTHING = -(1 << 62)


def _state(tail: Iterable[Changes] = (), watermark: int = NOTHING) -> WaitingRows:
    state = WaitingRows("rows", COLUMNS, WAIT)
    state.restore((), tail)
    state.open(watermark)
    return state


def _keep(state: WaitingRows, times: list[int], first: int) -> None:
    values = range(first, first + len(times))
    frame = pl.DataFrame({"v": values, "text": [f"row {value}" for value in values]}, schema=COLUMNS)
    state.keep(frame, np.array(times, np.int64))


def _advance(state: WaitingRows, watermark: int) -> list[tuple[int, int]]:
    """Times and values."""
    found = state.advance(watermark)
    return [] if found is None else list(zip(found[1].tolist(), found[0]["v"].to_list(), strict=True))


@settings(max_examples=100)
@given(st.integers(0, 1 << 40))
def test_rows_are_given_by_time_and_then_by_arrival(seed: int) -> None:
    """When the watermark is more than the wait past them; with commits and restarts anywhere, and blocks of one or of many rows."""
    chance = random.Random(seed)
    state = _state()
    log: list[Changes] = []
    waiting: list[tuple[int, int]] = []
    watermark, value = 0, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting_rows, "BLOCK_BYTES_MAX", chance.choice([50, 1_000]))
        for _ in range(40):
            times = [watermark - WAIT + chance.randrange(40) for _ in range(chance.randrange(1, 12))]
            _keep(state, times, value)
            waiting += [(time, value + at) for at, time in enumerate(times)]
            value += len(times)
            watermark += chance.choice([0, 1, 5, 30])
            due = sorted(row for row in waiting if watermark > row[0] + WAIT)
            assert _advance(state, watermark) == due
            waiting = [row for row in waiting if row not in due]
            assert state.rows == len(waiting)
            if chance.random() < 0.5:
                log += state.take_changes()
                if chance.random() < 0.5:
                    state = _state(log, watermark)
                    assert state.rows == len(waiting)
    assert _advance(state, 1 << 62) == sorted(waiting)
    log += state.take_changes()
    left = {key: entry for changes in log for key, entry in changes.pairs()}
    assert [key for key, entry in left.items() if entry is not None] == [b"W"]


def test_without_a_committed_watermark_nothing_is_given_twice() -> None:
    """Offsets can be lost while the changelog stays."""
    state = _state()
    _keep(state, [10, 20, 30], 0)
    log = state.take_changes()
    assert _advance(state, 28) == [(10, 0), (20, 1)]
    log += state.take_changes()
    assert _advance(_state(log), 100) == [(30, 2)]


def test_changed_columns_and_broken_blocks_are_told() -> None:
    state = _state()
    _keep(state, [10], 0)
    (changes,) = state.take_changes()
    other = WaitingRows("rows", {"v": pl.String()}, WAIT)
    other.restore((), [changes])
    with pytest.raises(StateError, match="the columns have changed"):
        other.open(NOTHING)
    with pytest.raises(CorruptStoreError, match="not a block of rows"):
        _state([Changes.of([key for key, _ in changes.pairs()], [b"nonsense"])])
