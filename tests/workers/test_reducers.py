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
from millstream.workers.reducer import describe_reducer, parse_reducer, reducer_named
from millstream.workers.windows.tumbling import tumbling
from tests.oracles.windows import REDUCERS
from tests.workers.window_run import Counts

MOST = (1 << 63) - 1
UTC_MS = pl.Datetime("ms", "UTC")
OF_SCALARS = ["collect_set(x)", "top_k(x, 2)", "approx_distinct(x)"]


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
        ("collect_set(x)", pl.String(), ["b", "a", "b", None, ""], ["", "a", "b"]),
        ("collect_set(x)", pl.Date(), [date(2020, 1, 2)] * 2, [date(2020, 1, 2)]),
        ("collect_set(x)", pl.Float64(), [0.0, math.inf, -0.0, -1.5], [-1.5, 0.0, math.inf]),
        # Variances: of too few values null; nothing is lost where values are large and close together.
        ("var(x)", pl.Int64(), [7], None),
        ("var(x, ddof=0)", pl.Int64(), [7], 0.0),
        ("var(x)", pl.Int32(), [1, None, 2, 3], 1.0),
        ("std(x)", pl.Float32(), [1.0, 3.0], math.sqrt(2)),
        ("std(x, ddof=0)", pl.UInt64(), [1, 3], 1.0),
        ("var(x)", pl.Float64(), [1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16], 30.0),
        # The largest, as often as they came.
        ("top_k(x, 3)", pl.Int64(), [MOST, -MOST - 1, None, MOST], [MOST, MOST, -MOST - 1]),
        ("top_k(x, 2)", pl.UInt64(), [1 << 63, 5, (1 << 64) - 1], [(1 << 64) - 1, 1 << 63]),
        ("top_k(x, 2)", pl.String(), ["b", "é", "", "z"], ["é", "z"]),
        ("top_k(x, 2)", pl.Binary(), [b"\xff", b"\xfe\xff", b""], [b"\xff", b"\xfe\xff"]),
        ("top_k(x, 2)", UTC_MS, [datetime(2020, 1, 1, tzinfo=UTC)], [datetime(2020, 1, 1, tzinfo=UTC)]),
        ("top_k(x, 2)", pl.Boolean(), [False, True, False], [True, False]),
        # Borders belong to what is above them; NaN to nothing.
        ("histogram(x, [0, 10])", pl.Int64(), [-1, 0, 9, 10, None], [1, 2, 1]),
        ("histogram(x, [0])", pl.Float64(), [math.nan, math.inf, -math.inf, -0.0], [1, 2]),
        ("quantile(x, 0.5)", pl.Float64(), [0.0, math.inf, -math.inf, math.nan], 0.0),
        ("quantile(x, 1)", pl.Float64(), [-1.0, math.inf], math.inf),
        ("quantile(x, 0)", pl.Int64(), [], None),
        ("approx_distinct(x)", pl.String(), ["a", "", None, "a"], 2),
        ("approx_distinct(x)", pl.Float64(), [0.0, -0.0, math.nan, -math.nan, math.inf], 3),
        ("approx_distinct(x)", UTC_MS, [datetime(2020, 1, 2, tzinfo=UTC)] * 2, 1),
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
        ("quantile(price, 0.95)", "quantile(price, 0.95)"),
        ("quantile( price,0.5 , relative_error = 0.02 )", "quantile(price, 0.5, relative_error=0.02)"),
        ("quantile(price, q=1)", "quantile(price, 1)"),
        ("argmin(page, 'unit price (net)')", "argmin(page, unit price (net))"),
        ('argmax("a, b", c)', "argmax(a, b, c)"),
        ("histogram(price, [0, 9.5,1e3])", "histogram(price, [0, 9.5, 1000.0])"),
        ("histogram(price, edges=[-1])", "histogram(price, [-1])"),
        ("top_k(nan, 3)", "top_k(nan, 3)"),
        ("var(price, ddof=1)", "var(price)"),
        ("std(price, 0)", "std(price, ddof=0)"),
        ("approx_distinct(user, precision=14)", "approx_distinct(user, precision=14)"),
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
        ("sum(a, b)", "sum is written sum(price): too many positional arguments"),
        ("sum(a,)", "is not a reducer"),
        ("sum(a, b=)", "is not a reducer"),
        ("var(a, ddof=1, ddof=0)", "is not a reducer"),
        ("var(a, ddof=1, 0)", "is not a reducer"),
        (
            "quantile(price",
            "is not a reducer; write name(column), as in sum(price), or count(); in {braces} a call with a comma",
        ),
        ("quantile(price)", "quantile is written quantile(price, q, relative_error=0.01, bins_max=2048): missing"),
        ("argmax()", "argmax needs a column, as in argmax(price, by)"),
        ("var(price, degrees=1)", "var is written var(price, ddof=1): got an unexpected keyword argument 'degrees'"),
        ("argmin(page, 5)", "argmin takes a column's name, as in argmin('price'), got 5"),
        ("var(price, ddof=2)", "var takes ddof=1 (of a sample) or ddof=0 (of a population), got ddof=2"),
        ("quantile(price, 95)", "quantile takes q as a number from 0.0 to 1.0, as in quantile(price, 0.95); got 95"),
        ("quantile(price, 0.5, relative_error=0)", "quantile takes relative_error as a number from 0.0001 to 0.5"),
        ("quantile(price, 0.5, bins_max=0)", "quantile takes bins_max as a whole number from 1 to 1048576"),
        ("top_k(price, 0)", "top_k takes k as a whole number from 1 to 1000, as in top_k(price, 3); got 0"),
        ("top_k(price, 2.0)", "top_k takes k as a whole number"),
        ("approx_distinct(user, 40)", "approx_distinct takes precision as a whole number from 4 to 16"),
        ("histogram(price, [])", "histogram takes ascending edges, as in histogram(price, [0, 10, 100]), got []"),
        ("histogram(price, [1, 1])", "histogram takes ascending edges"),
        ("histogram(price, 5)", "histogram takes ascending edges"),
        ("histogram(price, [a, b])", "histogram takes ascending edges"),
        ("histogram(price, [0, 1e999])", "histogram takes ascending edges"),
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


@pytest.mark.parametrize("text", ["var(x)", "std(x)", "histogram(x, [0])", "quantile(x, 0.5)"])
@pytest.mark.parametrize("dtype", [pl.String(), pl.Boolean(), pl.Date(), UTC_MS, pl.Decimal(10, 2), pl.Int128(), None])
def test_only_numbers_can_be_measured(text, dtype):
    with pytest.raises(
        PlanError, match="takes integers and floats up to 64 bits; cast the column first, got a column of"
    ):
        parse_reducer(text).output_type(dtype)


@pytest.mark.parametrize(
    "text", [f"{name}(x)" for name in ("min", "max", "first", "last", "count_distinct", "collect")] + OF_SCALARS
)
def test_lists_have_no_order(text):
    with pytest.raises(PlanError, match=f"{text.partition('(')[0]} takes numbers"):
        parse_reducer(text).output_type(pl.List(pl.Int64))


@pytest.mark.parametrize("name", ["argmin", "argmax"])
def test_neither_of_two_columns_can_be_a_list(name):
    reducer = reducer_named(name, "x", "y")
    for value, by in ((pl.List(pl.Int64), pl.Int64), (pl.Int64, pl.List(pl.Int64))):
        with pytest.raises(PlanError, match=f"{name} takes numbers"):
            reducer.output_type(pl.Struct({"value": value, "by": by}))


@pytest.mark.parametrize(("name", "first"), [("argmin", 2), ("argmax", 4)])
def test_of_rows_alike_the_earliest_counts_and_of_one_time_the_first_to_come(name, first):
    """By batches too; a later row that is no better never takes the place."""
    step = WindowAggregate(tumbling(100), ("user",), (("x", reducer_named(name, "x", "y")),))
    operator = step.build([Schema.of({"user": "string", "x": "int", "y": "float"})])
    operator.open(Counts(), MIN_TIME)
    late = [(5, 9.0, 10), (6, 1.0, 40), (7, None, 0)]
    rows = [(1, 5.0, 50), (2, 1.0, 30), (3, 1.0, 30), (8, 9.0, 20), (4, 9.0, 10), *late]
    for x, y, time in rows:
        data = {"user": ["a"], "x": [x], "y": [y], TIME: [time]}
        frame = pl.DataFrame(data, schema_overrides={"y": pl.Float64})
        frame = frame.with_columns(pl.lit(MIN_TIME).alias(BEFORE), pl.lit(0).alias(OFFSET))
        operator.process(Batch(frame), 0)
    (emit,) = operator.flush()
    assert emit.batch.frame["x"].to_list() == [first]


def test_bytes_of_other_aggregates_are_refused():
    count, text = reducer_named("count"), reducer_named("max", "x")
    held = count.accumulator(None)
    held.reserve(1)
    packed = pack(held.encode(np.array([0])))
    for other in (reducer_named("mean", "x").accumulator(pl.Float64()), text.accumulator(pl.String())):
        with pytest.raises(StateError, match="the aggregates were changed"):
            unpack(packed, (*other.layout, None) if None not in other.layout else (np.dtype("i8"), *other.layout))
