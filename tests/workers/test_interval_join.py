"""The interval join: bounds, columns, times, lateness, null keys, what is refused, what is kept in memory and in the changelog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from millstream.topics.batch import BEFORE, DELETED, MAX_TIME, MIN_TIME, OFFSET, TIME, Batch, Partition
from millstream.topics.schema import Schema
from millstream.workers.errors import PlanError
from millstream.workers.operators import interval_join as module
from millstream.workers.operators.interval_join import IntervalJoin, JoinOperator
from tests.oracles.interval_join import Row
from tests.workers.join_run import ONE_KEY, Run, batch_of
from tests.workers.window_run import Counts

VIEWS = Schema.of({"user": "string", "page": "string", "ts": "timestamp_ms"})
PURCHASES = Schema.of({"user": "string", "price": "float", "ts": "timestamp_ms"})
JOIN = IntervalJoin(("user",), 0, 300_000)
HOWS: list[module.How] = ["inner", "left", "right", "outer"]


def rows(side: int, *times: int, key: str | None = "k", before: int = MIN_TIME, first: int = 0) -> list[Row]:
    """Rows of one key; their values count from `first` (lefts) or from 100 + first (rights)."""
    return [Row(side, (key,), time, 100 * side + first + number, before) for number, time in enumerate(times)]


# Bounds

BOUNDS = """
lower upper | left at | pairs with rights at | not with
0     5     | 10      | 10 11 15             | 9 16
-5    0     | 10      | 5 9 10               | 4 11
-5    5     | 10      | 5 10 15              | 4 16
3     5     | 10      | 13 15                | 10 12 16
-5    -3    | 10      | 5 7                  | 4 8 10
0     0     | 10      | 10                   | 9 11
-5    5     | -3      | -8 -3 0 2            | -9 3
"""


@pytest.mark.parametrize("line", BOUNDS.strip().splitlines()[1:])
@pytest.mark.parametrize("left_first", [True, False])
def test_both_bounds_are_inclusive(line: str, left_first: bool) -> None:
    """`left.t + lower <= right.t <= left.t + upper`, whichever comes first."""
    bounds, (left,), yes, no = (cell.split() for cell in line.split("|"))
    rights = [int(time) for time in (*yes, *no)]
    run = Run(IntervalJoin(("k",), int(bounds[0]), int(bounds[1]), "outer"))
    sides = [rows(0, int(left)), rows(1, *rights)]
    for part in sides if left_first else sides[::-1]:
        run.rows(part)
    run.advance(MAX_TIME)
    found = run.given.sorted()
    assert found.pairs == [(0, 100 + number) for number in range(len(yes))]
    assert found.padded == ([], [100 + len(yes) + number for number in range(len(no))])


WAITS = """
side  lower upper grace  row at  waits while W is  is given when W is
0     0     5     0      10      15                16
0     -9    -2    0      10      8                 9
0     0     5     3      10      18                19
1     0     5     0      10      10                11
1     -9    -2    0      10      19                20
1     -9    -2    2      10      21                22
"""


@pytest.mark.parametrize("line", WAITS.strip().splitlines()[1:])
def test_an_unmatched_row_is_given_once_its_last_partner_must_have_come(line: str) -> None:
    """`W > t + bound + grace`, `bound` = upper for a left row, -lower for a right one."""
    side, lower, upper, grace, time, waits, given = map(int, line.split())
    run = Run(IntervalJoin(("k",), lower, upper, "outer", grace))
    run.rows(rows(side, time))
    run.advance(waits)
    assert run.given.padded == ([], [])
    run.advance(given)
    run.advance(given + 100)
    assert [len(padded) for padded in run.given.padded] == [1 - side, side]


# Columns and times


def emitted(operator: JoinOperator, batch: Batch, side: int) -> pl.DataFrame:
    return pl.concat([emit.batch.frame for emit in operator.process(batch, side) if emit.output == 0])


def built(step: IntervalJoin, left: Schema = VIEWS, right: Schema = PURCHASES) -> JoinOperator:
    operator = step.build([left, right])
    assert isinstance(operator, JoinOperator)
    operator.open(Counts("join"), MIN_TIME)
    return operator


def user_rows(schema: Schema, *values: tuple[object, ...], times: Sequence[int], before: int = MIN_TIME) -> Batch:
    frame = pl.DataFrame(values, schema=schema.polars(), orient="row")
    offsets = np.arange(len(values)) + 50
    internal = [pl.Series(TIME, times, pl.Int64), pl.Series(OFFSET, offsets)]
    return Batch(frame.with_columns(*internal, pl.lit(before, pl.Int64).alias(BEFORE)), Partition("views", 3))


def test_columns_of_pairs_and_padded_rows() -> None:
    """The left's, then the right's but for the key, renamed where taken; the later time; our columns."""
    operator = built(replace(JOIN, how="outer"))
    list(operator.process(user_rows(VIEWS, ("ann", "/a", 1), ("bob", "/b", 2), times=[1_000, 2_000]), 0))
    pairs = emitted(operator, user_rows(PURCHASES, ("ann", 2.5, 3), ("cat", 9.0, 4), times=[3_000, 4_000]), 1)
    names = ["user", "page", "ts", "price", "ts_right", TIME, BEFORE, OFFSET]
    assert (pairs.columns, pairs.rows()) == (names, [("ann", "/a", 1, 2.5, 3, 3_000, MIN_TIME, -1)])
    list(operator.advance(1_000))
    padded = pl.concat([emit.batch.frame for emit in operator.advance(MAX_TIME)])
    assert padded.select(names).rows() == [
        ("bob", "/b", 2, None, None, 2_000, 1_000 - 300_000, -1),
        ("cat", None, None, 9.0, 4, 4_000, 1_000 - 300_000, -1),
    ]


@pytest.mark.parametrize("first", [0, 1])
def test_the_time_of_a_pair_is_the_later_one(first: int) -> None:
    """Whichever of the two came last."""
    operator = built(JOIN)
    sides = [user_rows(VIEWS, ("ann", "/a", 1), times=[1_000]), user_rows(PURCHASES, ("ann", 2.5, 3), times=[3_000])]
    list(operator.process(sides[first], first))
    assert emitted(operator, sides[1 - first], 1 - first)[TIME].to_list() == [3_000]


def test_late_rows_go_out_with_the_reason() -> None:
    """On output 1, with where they came from; those of an outer side are padded as well."""
    operator = built(IntervalJoin(("user",), 0, 1_000, "left", grace_ms=2_000))
    late = user_rows(VIEWS, ("ann", "/a", 1), times=[7_999], before=10_000)
    padded, given = operator.process(late, 0)
    assert (padded.output, padded.batch.frame["page"].to_list()) == (0, ["/a"])
    assert (given.output, given.batch.origin) == (1, Partition("views", 3))
    assert given.batch.frame.row(0, named=True) == {
        "user": "ann",
        "page": "/a",
        "ts": 1,
        "price": None,
        "ts_right": None,
        "late_reason": "its time 7999 is more than the grace of 2s behind: the watermark of its partition was 10000",
        TIME: 7_999,
        BEFORE: 10_000,
        OFFSET: 50,
    }
    assert list(operator.process(user_rows(VIEWS, ("ann", "/b", 1), times=[8_000], before=10_000), 0)) == []


def test_a_partition_that_woke_is_told_apart() -> None:
    """Behind the task's watermark, not behind its own."""
    operator = built(IntervalJoin(("user",), 0, 1_000))
    list(operator.advance(5_000))
    (given,) = operator.process(user_rows(VIEWS, ("ann", "/a", 1), times=[4_999]), 0)
    assert "its partition slept, and the task's watermark was 5000" in given.batch.frame["late_reason"][0]
    assert isinstance(operator.context, Counts)
    assert operator.context.counts == {"late_rows.partition_woke": 1}


def test_a_late_row_joins_partners_still_kept_and_is_not_kept() -> None:
    run = Run(IntervalJoin(("k",), -10, 10))
    run.rows(rows(1, 100))
    run.rows(rows(0, 95, before=96))
    assert (run.given.pairs, run.given.late) == ([(0, 100)], [])
    run.rows(rows(1, 99, first=1))
    assert (run.given.pairs, run.counts.counts) == ([(0, 100)], {"late_rows_joined": 1})


@pytest.mark.parametrize(("how", "padded"), [("inner", ([], [])), ("left", ([0], [])), ("outer", ([0], [100]))])
def test_null_keys_match_nothing(how: module.How, padded: tuple[list[int], list[int]]) -> None:
    """Not even each other; an outer side gives them at once, and never keeps them."""
    run = Run(IntervalJoin(("k",), -10, 10, how))
    run.rows(rows(0, 5, key=None))
    run.rows(rows(1, 5, key=None))
    assert (run.given.pairs, run.given.padded) == ([], padded)
    assert run.counts.counts["null_key_rows"] == 2
    assert sum(buffer.rows for buffer in run.operator.state.buffers) == 0


def test_delays() -> None:
    """A padded row is older than the watermark by as much as it waited; a pair by the grace at most."""
    delays = {
        (how, lower, upper): IntervalJoin(("k",), lower, upper, how, 7).delay_ms
        for how in HOWS
        for lower, upper in ((0, 5), (-9, 5), (-9, -3), (2, 3))
    }
    outer = {(0, 5): 12, (-9, 5): 16, (-9, -3): 16, (2, 3): 10}
    assert delays == {(how, *bounds): 7 if how == "inner" else delay for how in HOWS for bounds, delay in outer.items()}


# What is refused

WRONG = [
    (replace(JOIN, lower_ms=1, upper_ms=0), "lower (1ms) is above upper (0s)"),
    (replace(JOIN, grace_ms=-1), "grace must not be negative"),
    (replace(JOIN, upper_ms=1 << 60), "must be below"),
    (replace(JOIN, on=()), "on= needs a column"),
    (replace(JOIN, on=("usr",)), "the left side has no column 'usr'; did you mean 'user'?"),
    (replace(JOIN, on=("page",)), "the right side has no column 'page'"),
    (replace(JOIN, how="lefft"), "no how='lefft'; did you mean 'left'?"),  # type: ignore[arg-type]
    (replace(JOIN, suffix=""), "the right side's column 'ts' would be 'ts', which is taken"),
]


@pytest.mark.parametrize(("step", "text"), WRONG, ids=[text for _, text in WRONG])
def test_a_plan_that_cannot_be_is_refused(step: IntervalJoin, text: str) -> None:
    with pytest.raises(PlanError) as error:
        step.output_schemas([VIEWS, PURCHASES])
    assert text in str(error.value)


def test_keys_of_two_types_are_refused() -> None:
    with pytest.raises(PlanError, match="'user' is String on the left and Int64 on the right; cast one"):
        JOIN.output_schemas([VIEWS, Schema.of({"user": "int"})])


def test_the_name_of_the_reason_is_taken() -> None:
    with pytest.raises(PlanError, match="rename the column 'late_reason'"):
        JOIN.output_schemas([VIEWS, Schema.of({"user": "string", "late_reason": "string"})])


def test_tombstones_and_absurd_times_are_rejected_row_by_row() -> None:
    operator = built(JOIN)
    batch = user_rows(VIEWS, *[("ann", "/a", 1)] * 4, times=[1, 2, 1 << 61, -(1 << 62)])
    batch = batch.replaced(batch.frame.with_columns(pl.Series(DELETED, [False, True, None, False])))
    assert list(operator.process(batch, 0)) == []
    assert isinstance(operator.context, Counts)
    assert [reason for _, reason in operator.context.rejected] == [
        "an interval join cannot take back pairs: tombstone",
        f"event time {1 << 61} is out of range",
        f"event time {-(1 << 62)} is out of range",
    ]
    assert operator.state.buffers[0].rows == 1


def test_it_describes_itself() -> None:
    assert JOIN.describe() == {
        "on": "user",
        "right minus left": "0s to 5m",
        "how": "inner",
        "grace": "0s",
        "suffix": "_right",
    }


# Memory


def test_rows_behind_the_horizon_are_freed() -> None:
    """However long it runs: a few buckets, a few runs each, and nothing in the end."""
    run = Run(IntervalJoin(("k",), -100, 100, "left", 10))
    most_rows = most_runs = 0
    for number in range(300):
        times = range(10 * number, 10 * number + 10)
        run.rows(rows(0, *times, key=f"k{number}"))
        run.rows(rows(1, *times, key=f"k{number + 1}"))
        run.advance(10 * number - 5)
        held = run.operator.state.buffers
        most_rows = max(most_rows, *(buffer.rows for buffer in held))
        most_runs = max(most_runs, *(buffer.runs for buffer in held))
        run.commit()
    assert most_rows <= 2 * 150
    assert most_runs <= 20
    run.advance(MAX_TIME)
    assert [(buffer.rows, buffer.runs) for buffer in run.operator.state.buffers] == [(0, 0), (0, 0)]


def test_sparse_rows_do_not_make_a_run_each() -> None:
    """Bounds of a millisecond, rows a day apart: the buckets widen."""
    run = Run(IntervalJoin(("k",), -1, 1))
    run.rows(rows(0, *(day * 86_400_000 for day in range(200))))
    assert run.operator.state.buffers[0].runs <= 16
    run.rows(rows(1, *(day * 86_400_000 + 1 for day in range(200))))
    assert len(run.given.pairs) == 200


def test_many_pairs_come_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """One key, 60 x 60 pairs, also where one row has more partners than a batch takes."""
    monkeypatch.setattr(module, "_PAIRS_MAX", 50)
    operator = built(IntervalJoin(("k",), -100, 100), ONE_KEY, ONE_KEY)
    list(operator.process(batch_of(rows(0, *range(60))), 0))
    emits = list(operator.process(batch_of(rows(1, *range(60))), 1))
    assert max(len(emit.batch) for emit in emits) <= 50
    pairs = pl.concat([emit.batch.frame for emit in emits]).select("v", "v_right").rows()
    assert sorted(pairs) == [(left, 100 + right) for left in range(60) for right in range(60)]


# What survives
