"""What every reducer promises: its oracle's results in any cuts, merges and restarts; state as bytes that come back as they were.

A new file in `workers/reducers/` is found here, and fails until `tests/oracles/reducers.py` has an oracle of it.
"""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.state.slots import Accumulator, pack, plain, unpack
from millstream.workers.aggregate_function import AggregateFunction
from millstream.workers.errors import PlanError
from millstream.workers.reducer import Reducer, columns_read, describe_reducer, parse_reducer, reducer_names
from tests.oracles.reducers import JUDGES, Judge, alike

MOST = (1 << 63) - 1
VALUES: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "ints": (pl.Int64(), st.none() | st.integers(-MOST - 1, MOST)),
    "small": (pl.Int64(), st.none() | st.integers(-3, 3)),
    "unsigned": (pl.UInt64(), st.none() | st.integers(0, 2 * MOST + 1)),
    "floats": (pl.Float64(), st.none() | st.integers(-40, 40).map(lambda n: n / 4) | st.just(math.nan)),
    "texts": (pl.String(), st.none() | st.text(max_size=3)),
    "bytes": (pl.Binary(), st.none() | st.binary(max_size=2)),
    "bools": (pl.Boolean(), st.none() | st.booleans()),
}
LATEST = AggregateFunction(
    "latest",
    "x",
    pl.List(pl.Int64),
    init=list,
    add=lambda state, value: [*state, value][-2:],
    merge=lambda state, other: [*state, *other][-2:],
    result=lambda state: state,
)
"""Of the user's own, mindful of the order: the last two to arrive."""


def _latest(rows: Any, result: Any) -> bool:
    return bool(result == [value for _, value in rows if value is not None][-2:])


REDUCERS: dict[str, tuple[Reducer, Judge]] = {
    **{text: (parse_reducer(text), judge) for text, judge in JUDGES.items()},
    "a function of the user's": (LATEST, _latest),
}


def _fits(reducer: Reducer, dtype: pl.DataType) -> bool:
    try:
        reducer.output_type(dtype)
    except PlanError:
        return False
    return True


def _kinds(reducer: Reducer) -> list[str]:
    """Kinds of values it takes; of sums small ones, as others do not fit (tests/workers/test_reducers.py)."""
    if reducer is LATEST or reducer.name in {"sum", "mean"}:
        return ["small"]
    if len(columns_read(reducer)) > 1:
        return [kind for kind in VALUES if kind != "unsigned"]
    return [kind for kind, (dtype, _) in VALUES.items() if _fits(reducer, dtype)]


CASES = [(text, kind) for text, (reducer, _) in REDUCERS.items() for kind in _kinds(reducer)]
Rows = list[tuple[int, int, Any]]
"""(group, time, value) in order of arrival."""


def _column(reducer: Reducer, kind: str, by: str) -> tuple[pl.DataType, st.SearchStrategy[Any]]:
    """The type of what the reducer reads, and values of it; of two columns, the second of the kind `by`."""
    dtype, values = VALUES[kind]
    if len(columns_read(reducer)) < 2:
        return dtype, values
    by_type, by_values = VALUES[by]
    return pl.Struct({"value": dtype, "by": by_type}), st.fixed_dictionaries({"value": values, "by": by_values})


def _restored(reducer: Reducer, dtype: pl.DataType, held: Accumulator, slots: int) -> Accumulator:
    """In other slots, with something in them, by way of bytes; the same bytes come out."""
    again, there = reducer.accumulator(dtype), np.arange(slots)
    again.reserve(slots)
    packed = pack(held.encode(there))
    other = again.encode(there)
    again.decode(there, unpack(packed, held.layout))
    assert pack(again.encode(there)).equals(packed)
    again.decode(there, other)
    assert pack(again.encode(there)).equals(pack(other))
    again.decode(there[::-1], unpack(packed.take(np.arange(slots)[::-1]), held.layout))
    assert pack(again.encode(there)).equals(packed)
    return again


def _add(held: Accumulator, dtype: pl.DataType, rows: Rows) -> None:
    groups, times, values = zip(*rows, strict=True)
    held.add(np.array(groups), plain(pl.Series(values, dtype=dtype)), np.array(times, np.int64))


def _of(rows: Rows, group: int) -> list[tuple[int, Any]]:
    return [(time, value) for one, time, value in rows if one == group]


def _judge(judge: Judge, held: Accumulator, groups: list[list[tuple[int, Any]]]) -> None:
    results = held.result(np.arange(len(groups))).to_list()
    assert [(rows, result) for rows, result in zip(groups, results, strict=True) if not judge(rows, result)] == []


@pytest.mark.parametrize(("text", "kind"), CASES)
@settings(max_examples=20)
@given(data=st.data())
def test_groups_in_any_cuts_merges_and_restarts_are_those_of_the_oracle(
    text: str, kind: str, data: st.DataObject
) -> None:
    """Rows of four groups in batches; then groups 2 and 3, whose times are later, are merged into 1."""
    reducer, judge = REDUCERS[text]
    dtype, values = _column(reducer, kind, data.draw(st.sampled_from([*VALUES])))
    rng = random.Random(data.draw(st.integers(0, 999)))
    drawn = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5), values), max_size=30))
    rows = [(group, time + 100 * group, value) for group, time, value in drawn]
    held, at = reducer.accumulator(dtype), 0
    held.reserve(4)
    while at < len(rows):
        size = rng.choice([1, 2, 30])
        _add(held, dtype, rows[at : at + size])
        at += size
        if rng.random() < 0.4:
            held = _restored(reducer, dtype, held, 4)
    groups = [_of(rows, group) for group in range(4)]
    _judge(judge, held, groups)
    held.merge(np.array([1, 1]), np.array([2, 3]))
    held.clear(np.array([2, 3]))
    _judge(judge, held, [groups[0], groups[1] + groups[2] + groups[3], [], []])
    empty = reducer.accumulator(dtype)
    empty.reserve(1)
    assert pack(held.encode(np.array([3]))).equals(pack(empty.encode(np.array([0]))))


@pytest.mark.parametrize(("text", "kind"), CASES)
@settings(max_examples=10)
@given(data=st.data())
def test_what_is_merged_is_what_is_added_in_order(text: str, kind: str, data: st.DataObject) -> None:
    reducer, _ = REDUCERS[text]
    dtype, values = _column(reducer, kind, "floats")
    rows = data.draw(st.lists(st.tuples(st.just(0), st.integers(-5, 5), values), max_size=20))
    cut = data.draw(st.integers(0, len(rows)))
    whole, parts = reducer.accumulator(dtype), reducer.accumulator(dtype)
    whole.reserve(1)
    parts.reserve(2)
    for held, group, some in ((whole, 0, rows), (parts, 0, rows[:cut]), (parts, 1, rows[cut:])):
        if some:
            _add(held, dtype, [(group, time, value) for _, time, value in some])
    parts.merge(np.array([0]), np.array([1]))
    merged, added = (held.result(np.array([0])).to_list()[0] for held in (parts, whole))
    assert alike(merged, added)


@pytest.mark.parametrize(("text", "kind"), CASES)
def test_no_rows_and_nulls_are_the_same_and_of_the_promised_type(text: str, kind: str) -> None:
    reducer, judge = REDUCERS[text]
    dtype, _ = _column(reducer, kind, "small")
    null = None if not isinstance(dtype, pl.Struct) else {"value": None, "by": 1}
    held = reducer.accumulator(dtype)
    held.reserve(2)
    _add(held, dtype, [(0, 1, null), (0, 2, null)])
    held.add(np.zeros(0, np.int64), plain(pl.Series([], dtype=dtype)), np.zeros(0, np.int64))
    held.merge(np.array([0]), np.array([1]))
    result = held.result(np.arange(2))
    assert result.dtype == reducer.output_type(dtype)
    assert repr(result[0]) == repr(result[1])
    _judge(judge, held, [[], []])
    assert len(held.result(np.zeros(0, np.int64))) == 0
    assert len(pack(held.encode(np.zeros(0, np.int64)))) == 0
    assert held.unfit(np.arange(2)) is None
    assert held.size_bytes >= 0


@pytest.mark.parametrize("text", JUDGES)
def test_what_is_written_is_what_is_told(text: str) -> None:
    assert describe_reducer(parse_reducer(text)) == text
    assert hash(parse_reducer(text)) == hash(parse_reducer(text))


def test_every_reducer_has_an_oracle() -> None:
    assert {parse_reducer(text).name for text in JUDGES} == set(reducer_names())
