"""Flags of slots do what a byte a slot would do, however few of many are set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.state.slot_flags import SlotFlags
from millstream.state.slots import distinct

CHANGED = 3
SIZES = (1, 256, 5_000)

some_slots = st.lists(st.integers(0, SIZES[-1] - 1), max_size=40)
flags = st.sampled_from([1, 2, 3, 8, 11])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("touch"), some_slots, st.just(0)),
        st.tuples(st.sampled_from(["add", "remove", "put"]), some_slots, flags),
        st.tuples(st.sampled_from(["having", "of"]), some_slots, flags),
        st.tuples(st.just("take"), some_slots, st.sampled_from([1, 2])),
        st.tuples(st.just("fill"), st.just([]), flags),
    ),
    max_size=25,
)


def plainly(column: np.ndarray, what: str, slots: np.ndarray, flag: int) -> Any:
    """The same on one byte a slot."""
    if what in {"take", "having"}:
        found = np.flatnonzero(column & flag).tolist()
        column[found] &= 0xFF & ~flag if what == "take" else 0xFF
        return found
    if what == "of":
        return column[slots].tolist()
    if what == "fill":
        column |= flag
    elif what == "put":
        column[slots] = flag
    else:
        column[slots] = column[slots] & (0xFF & ~flag) if what == "remove" else column[slots] | (flag or CHANGED)
    return None


@given(st.sampled_from(SIZES), steps)
def test_as_one_byte_a_slot(size: int, done: list[tuple[str, list[int], int]]) -> None:
    ours, expected = SlotFlags(CHANGED), np.zeros(size, np.uint8)
    ours.reserve(size)
    for what, some, flag in done:
        slots = np.array([slot % size for slot in some], np.int64)
        told = plainly(expected, what, slots, flag)
        if what == "touch":
            ours.touch(slots)
        elif what == "fill":
            ours.add(np.arange(size), flag)
        elif what in {"take", "having"}:
            assert told == getattr(ours, what)(flag).tolist()
        elif what == "of":
            assert told == ours.of(slots).tolist()
        else:
            getattr(ours, what)(slots, flag)
    assert expected.tolist() == ours.of(np.arange(size)).tolist()


def test_room_is_made_without_forgetting() -> None:
    ours = SlotFlags(CHANGED)
    ours.reserve(1)
    ours.touch(np.array([0]))
    ours.reserve(1_000_000)
    ours.touch(np.array([999_999, 70_000, 999_999], np.uint32))
    assert [0, 70_000, 999_999] == ours.take(1).tolist()
    assert [] == ours.take(1).tolist()
    assert [0, 70_000, 999_999] == ours.take(2).tolist()


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_different_codes_ascending(size: int) -> None:
    """Whether they are marked or sorted."""
    assert [1, 3, 9] == distinct(np.array([9, 1, 3, 1, 9], np.uint32), size).tolist()
    assert [] == distinct(np.zeros(0, np.uint32), size).tolist()
