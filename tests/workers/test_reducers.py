"""Reducers: types, nulls, edges, exactness; bytes of state and back; merging; how they are written."""

from __future__ import annotations

import math
import random
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.state.errors import StateError
from millstream.state.slots import pack, plain, unpack
from millstream.topics.batch import BEFORE, MIN_TIME, OFFSET, TIME, Batch
from millstream.topics.schema import Schema
from millstream.workers.errors import PlanError
from millstream.workers.operators.window_aggregate import WindowAggregate
from millstream.workers.reducer import describe_reducer, parse_reducer, reducer_named, reducer_names
from millstream.workers.windows.tumbling import tumbling
from tests.oracles.windows import REDUCERS
from tests.workers.window_run import Counts

MOST = (1 << 63) - 1
UTC_MS = pl.Datetime("ms", "UTC")


def reduced(text: str, values: list[Any], dtype: pl.DataType, times: list[int] | None = None) -> Any:
    """The result of one group, and its type is checked; its bytes come back as what they were."""
    reducer, column = parse_reducer(text), pl.Series(values, dtype=dtype)
    accumulator = reducer.accumulator(dtype)
    accumulator.reserve(2)
    slots = np.ones(len(values), np.int64)
    accumulator.add(slots, plain(column), np.array(times or range(len(values)), np.int64))
    result = accumulator.result(np.array([1]))
    assert result.dtype == reducer.output_type(dtype)
    again = reducer.accumulator(dtype)
    again.reserve(5)
    again.decode(np.array([4]), unpack(pack(accumulator.encode(np.array([1]))), accumulator.layout))
    assert again.result(np.array([4])).equals(result)
    return result.to_list()[0]


@pytest.mark.parametrize(
    ("text", "dtype", "values", "expected"),
    [
        ("count(x)", pl.Int64(), [1, None, 3], 2),
        ("count(x)", pl.String(), [None], 0),
        ("count(x)", pl.List(pl.Int64), [[1], None], 1),
        # Sums: of no rows 0; exact where they fit, in whatever order they come there.
        ("sum(x)", pl.Int64(), [], 0),
        ("sum(x)", pl.Int64(), [None], 0),
        ("sum(x)", pl.Float64(), [None], 0.0),
        ("sum(x)", pl.Int64(), [MOST, -MOST, 5], 5),
        ("sum(x)", pl.Int64(), [-MOST - 1], -MOST - 1),
        ("sum(x)", pl.Int64(), [MOST, 1, -1], MOST),
        ("sum(x)", pl.Int64(), [MOST] * 50 + [-MOST] * 49, MOST),
        ("sum(x)", pl.Int64(), [(1 << 53) + 1, 1], (1 << 53) + 2),
        ("sum(x)", pl.Int32(), [(1 << 31) - 1] * 3, 3 * ((1 << 31) - 1)),
        ("sum(x)", pl.Int8(), [100] * 3, 300),
        ("sum(x)", pl.UInt32(), [(1 << 32) - 1] * 2, 2 * ((1 << 32) - 1)),
        ("sum(x)", pl.Float32(), [0.5, None, 0.25], 0.75),
        ("sum(x)", pl.Float64(), [math.inf, 1.0], math.inf),
        # Means: of no rows null; of integers from their exact sum, even where that is beyond 64 bits.
        ("mean(x)", pl.Int64(), [], None),
        ("mean(x)", pl.Float64(), [None], None),
        ("mean(x)", pl.Int64(), [1, None, 2], 1.5),
        ("mean(x)", pl.Int64(), [MOST, MOST], float(MOST)),
        ("mean(x)", pl.Int64(), [-MOST - 1, -MOST - 1, 0], -2 * (1 << 63) / 3),
        ("mean(x)", pl.Float64(), [0.5, 1.0], 0.75),
        # Extremes: of the column's own type, exactly.
        ("min(x)", pl.Int64(), [], None),
        ("min(x)", pl.Int64(), [None, MOST], MOST),
        ("max(x)", pl.Int64(), [-MOST - 1], -MOST - 1),
        ("max(x)", pl.Int64(), [(1 << 53) + 1, 1 << 53], (1 << 53) + 1),
        ("max(x)", pl.UInt64(), [1 << 63, (1 << 64) - 1], (1 << 64) - 1),
        ("min(x)", pl.Int32(), [3, -4], -4),
        ("min(x)", pl.Float64(), [math.nan, 2.0, 1.0], 1.0),
        ("max(x)", pl.Float64(), [math.nan, -math.inf], -math.inf),
        ("max(x)", pl.Float32(), [0.5, 0.25], 0.5),
        ("min(x)", pl.String(), ["b", "a", None, "é"], "a"),
        ("max(x)", pl.String(), ["b", "", "é", "z"], "é"),
        ("min(x)", pl.String(), ["x", ""], ""),
        ("max(x)", pl.Binary(), [b"\xff", b"\xfe\xff"], b"\xff"),
        ("min(x)", pl.Boolean(), [True, None, False], False),
        ("max(x)", pl.Boolean(), [False], False),
        ("max(x)", pl.Date(), [date(1969, 1, 1), date(2020, 1, 2)], date(2020, 1, 2)),
        ("min(x)", UTC_MS, [datetime(1969, 1, 1, tzinfo=UTC), None], datetime(1969, 1, 1, tzinfo=UTC)),
        # The edges of time: nulls are skipped.
        ("first(x)", pl.Int64(), [None, None], None),
        ("first(x)", pl.Int64(), [None, MOST, 2], MOST),
        ("last(x)", pl.String(), ["a", "", None], ""),
        ("last(x)", pl.Boolean(), [True, False], False),
        ("last(x)", UTC_MS, [datetime(2020, 1, 1, tzinfo=UTC)], datetime(2020, 1, 1, tzinfo=UTC)),
        ("count_distinct(x)", pl.String(), ["a", "", None, "a"], 2),
        ("count_distinct(x)", pl.Int64(), [], 0),
        ("count_distinct(x)", pl.Int64(), [1 << 53, (1 << 53) + 1, 1 << 53], 2),
        ("count_distinct(x)", pl.Float64(), [0.0, -0.0, math.nan, -math.nan, math.inf], 3),
        ("count_distinct(x)", pl.Binary(), [b"", b"\x00", b"\x00\x00"], 3),
        ("count_distinct(x)", pl.Boolean(), [True, False, True], 2),
        ("collect(x)", pl.Int64(), [], []),
        ("collect(x)", pl.String(), ["b", None, "", "a"], ["b", "", "a"]),
        ("collect(x)", pl.Boolean(), [True, False], [True, False]),
        ("collect(x)", pl.Binary(), [b"", b"\xff"], [b"", b"\xff"]),
        ("collect(x)", pl.Date(), [date(2020, 1, 2)], [date(2020, 1, 2)]),
        ("collect(x)", UTC_MS, [datetime(2020, 1, 2, tzinfo=UTC)], [datetime(2020, 1, 2, tzinfo=UTC)]),
        ("collect(x)", pl.Float32(), [0.5], [0.5]),
    ],
)
def test_of_these_values_this_is_the_result(text, dtype, values, expected):
    assert reduced(text, values, dtype) == expected


def test_the_largest_nan_is_only_given_where_there_is_nothing_else():
    assert math.isnan(reduced("min(x)", [math.nan, None], pl.Float64()))


@pytest.mark.parametrize(
    ("text", "times", "expected"),
    [
        # Of rows of one time, the first to come is first and the last to come is last.
        ("first(x)", [5, 3, 3, 9], 1),
        ("last(x)", [5, 9, 9, 3], 2),
        ("last(x)", [7, 7, 7, 7], 3),
        ("first(x)", [7, 7, 7, 7], 0),
        ("collect(x)", [5, 3, 3, 4], [1, 2, 3, 0]),
        ("collect(x)", [-1, -1, -5, 0], [2, 0, 1, 3]),
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_order_is_event_time_then_arrival(text, times, expected, as_text):
    values = ["0", "1", "2", "3"] if as_text else [0, 1, 2, 3]
    result = reduced(text, values, pl.String() if as_text else pl.Int64(), times)
    shown = [int(x) for x in result] if isinstance(result, list) else int(result)
    assert shown == expected


@pytest.mark.parametrize("total", [MOST + 1, -MOST - 2, 3 * MOST])
def test_an_integer_sum_beyond_64_bits_is_a_rejected_row_and_never_wraps(total):
    """The other keys of the window are given; the sum goes on exactly, and is given again once it fits."""
    schema = Schema.of({"user": "string", "x": "int"})
    step = WindowAggregate(tumbling(10), ("user",), (("n", parse_reducer("count()")), ("s", parse_reducer("sum(x)"))))
    operator, context = step.build([schema]), Counts()
    operator.open(context, MIN_TIME)

    def give(user: str, values: list[int]) -> list[tuple[Any, ...]]:
        data = {"user": [user] * len(values), "x": values, TIME: [1] * len(values)}
        frame = pl.DataFrame(data).with_columns(pl.lit(MIN_TIME).alias(BEFORE), pl.lit(0).alias(OFFSET))
        operator.process(Batch(frame), 0)
        return [row for emit in operator.flush() for row in emit.batch.frame.select("user", "n", "s").rows()]

    sign = 1 if total > 0 else -1
    parts = [sign * min(MOST, abs(total) - i * MOST) for i in range(abs(total) // MOST + 1) if abs(total) > i * MOST]
    assert sum(parts) == total
    assert give("b", [1]) == [("b", 1, 1)]
    assert give("a", parts) == []
    assert [(row["user"], row["n"]) for row, _ in context.rejected] == [("a", len(parts))]
    assert "beyond 64 bits" in context.rejected[0][1]
    assert give("a", [-part for part in parts]) == [("a", 2 * len(parts), 0)]


VALUES = {
    "ints": (pl.Int64(), st.none() | st.integers(-MOST, MOST)),
    "small": (pl.Int64(), st.none() | st.integers(-3, 3)),
    "floats": (pl.Float64(), st.none() | st.integers(-40, 40).map(lambda n: n / 4) | st.just(math.nan)),
    "texts": (pl.String(), st.none() | st.text(max_size=3)),
    "bytes": (pl.Binary(), st.none() | st.binary(max_size=2)),
    "bools": (pl.Boolean(), st.none() | st.booleans()),
}
WHERE = {"sum": ("ints", "small"), "mean": ("small",)}
CASES = [(name, kind) for name in REDUCERS for kind in WHERE.get(name, VALUES)]


@pytest.mark.parametrize(("name", "kind"), CASES)
@settings(max_examples=20)
@given(data=st.data())
def test_groups_in_any_cuts_merges_and_restarts_are_those_of_the_oracle(name, kind, data):
    """Rows of four groups in batches; then groups 2 and 3, whose times are later, are merged into 1."""
    dtype, values = VALUES[kind]
    rows = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5), values), max_size=30))
    rng = random.Random(data.draw(st.integers(0, 999)))
    rows = [(group, time + 100 * group, value) for group, time, value in rows]
    reducer = reducer_named(name, "x")
    held, at = reducer.accumulator(dtype), 0
    held.reserve(4)
    while at < len(rows):
        size = rng.choice([1, 2, 30])
        group, time, value = zip(*rows[at : at + size], strict=True)
        held.add(np.array(group), plain(pl.Series(value, dtype=dtype)), np.array(time, np.int64))
        at += size
        if rng.random() < 0.4:
            again, slots = reducer.accumulator(dtype), np.arange(4)
            again.reserve(4)
            again.decode(slots, unpack(pack(held.encode(slots)), held.layout))
            held = again
    expected = [[(time, value) for g, time, value in rows if g == group] for group in range(4)]
    _same(held.result(np.arange(4)).to_list(), [REDUCERS[name](of_one) for of_one in expected], held)
    held.merge(np.array([1, 1]), np.array([2, 3]))
    held.clear(np.array([2, 3]))
    merged = [expected[0], expected[1] + expected[2] + expected[3], [], []]
    _same(held.result(np.arange(4)).to_list(), [REDUCERS[name](of_one) for of_one in merged], held)


def _same(got: list[Any], expected: list[Any], held: Any) -> None:
    unfit = held.unfit(np.arange(len(got)))
    for slot, (one, other) in enumerate(zip(got, expected, strict=True)):
        beyond = isinstance(other, int) and not -MOST - 1 <= other <= MOST
        assert beyond == (unfit is not None and bool(unfit[slot]))
        assert one is None if beyond else repr(one) == repr(other) or one == pytest.approx(other, abs=0, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ("count()", "count()"),
        (" count( ) ", "count()"),
        ("count(price)", "count(price)"),
        ("sum( price )", "sum(price)"),
        ('max("unit price")', "max(unit price)"),
        ("collect('a(b)')", "collect(a(b))"),
        ("count_distinct(user.id)", "count_distinct(user.id)"),
    ],
)
def test_reducers_are_written_as_calls(text, described):
    assert describe_reducer(parse_reducer(text)) == described
    assert parse_reducer(text) == parse_reducer(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sum", "'sum' is not a reducer; write name(column)"),
        ("sum(price) + 1", "is not a reducer"),
        ("sum(a, b)", "is not a reducer"),
        ("", "is not a reducer"),
        ("summ(price)", "no reducer 'summ'; did you mean 'sum'?"),
        ("COUNT()", "did you mean 'count'?"),
        ("_values(x)", "no reducer '_values'"),
        ("sum()", "sum needs a column, as in sum(price)"),
        ('sum("")', "sum needs a column"),
    ],
)
def test_what_is_no_reducer_is_refused(text, message):
    with pytest.raises(PlanError) as refused:
        parse_reducer(text)
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["sum", "mean"])
@pytest.mark.parametrize(
    "dtype", [pl.String(), pl.Boolean(), pl.Date(), UTC_MS, pl.UInt64(), pl.Decimal(10, 2), pl.List(pl.Int64)]
)
def test_only_numbers_add_up(name, dtype):
    with pytest.raises(PlanError, match=f"{name} takes integers"):
        reducer_named(name, "x").output_type(dtype)


@pytest.mark.parametrize("name", ["min", "max", "first", "last", "count_distinct", "collect"])
def test_lists_have_no_order(name):
    with pytest.raises(PlanError, match=f"{name} takes numbers"):
        reducer_named(name, "x").output_type(pl.List(pl.Int64))


def test_there_are_these_reducers():
    assert reducer_names() == sorted(REDUCERS)


def test_bytes_of_other_aggregates_are_refused():
    count, text = reducer_named("count"), reducer_named("max", "x")
    held = count.accumulator(None)
    held.reserve(1)
    packed = pack(held.encode(np.array([0])))
    for other in (reducer_named("mean", "x").accumulator(pl.Float64()), text.accumulator(pl.String())):
        with pytest.raises(StateError, match="the aggregates were changed"):
            unpack(packed, (*other.layout, None) if None not in other.layout else (np.dtype("i8"), *other.layout))
