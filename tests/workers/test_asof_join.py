"""The as-of join: which row matches, when it is given, lateness, null keys, tombstones, columns, what is refused, what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import pytest

from millstream.state.rows import TableState
from millstream.topics.batch import BEFORE, DELETED, MAX_TIME, MIN_TIME, OFFSET, TIME, Batch
from millstream.topics.schema import Schema
from millstream.workers.errors import PlanError
from millstream.workers.operators.asof_join import AsofHow, AsofJoin, Direction
from tests.oracles.asof_join import Row
from tests.workers.waiting_join_run import Run, batch_of

TRADES = Schema.of({"stock": "string", "price": "float", "ts": "timestamp_ms"})
QUOTES = Schema.of({"stock": "string", "bid": "float", "ts": "timestamp_ms"})
BACKWARD = AsofJoin(("k",))
NEAREST = AsofJoin(("k",), "nearest", 10)
FORWARD = AsofJoin(("k",), "forward", 10)


def lefts(*times: int, key: str | None = "k", before: int = MIN_TIME, first: int = 0) -> list[Row]:
    return [Row(0, key, time, first + number, before) for number, time in enumerate(times)]


def rights(*times: int | str, key: str | None = "k", before: int = MIN_TIME, first: int = 100) -> list[Row]:
    """`"5x"`: a tombstone at 5. Values count from `first`."""
    texts = [str(time) for time in times]
    return [
        Row(1, key, int(text.removesuffix("x")), first + number, before, text.endswith("x"))
        for number, text in enumerate(texts)
    ]


def pairs(run: Run) -> list[tuple[int, int | None]]:
    return [(row["v"], row["v_right"]) for row in run.given.rows]


# What matches

MATCHES = """
direction  tolerance | left at | rights at, by arrival | matches (place in the line before)
backward   -         | 10      | 3 7 12                | 1
backward   -         | 10      | 7 3 12                | 0
backward   -         | 10      | 10                    | 0
backward   -         | 10      | 11                    | -
backward   -         | 10      |                       | -
backward   -         | 10      | 10 10 7               | 1
backward   -         | 10      | -1000000              | 0
backward   5         | 10      | 5                     | 0
backward   5         | 10      | 4                     | -
backward   0         | 10      | 9 10                  | 1
backward   0         | 10      | 9                     | -
backward   -         | -5      | -7 -5 -3              | 1
backward   -         | -5      | -6 -4                 | 0
backward   -         | 10      | 3 7x                  | -
backward   -         | 10      | 3 10x                 | -
backward   -         | 10      | 3 11x                 | 0
backward   -         | 10      | 3 7x 9                | 2
backward   -         | 10      | 7x 7                  | 1
backward   -         | 10      | 3 7 7x                | -
forward    5         | 10      | 9 12 13               | 1
forward    5         | 10      | 13 12                 | 1
forward    5         | 10      | 10 12                 | 0
forward    5         | 10      | 15                    | 0
forward    5         | 10      | 16                    | -
forward    0         | 10      | 10 11                 | 0
forward    5         | 10      | 12 12                 | 1
forward    5         | 10      | 11x 12                | 1
forward    5         | 10      | 12 12x 14             | 2
forward    5         | -5      | -6 -3                 | 1
nearest    5         | 10      | 8 13                  | 0
nearest    5         | 10      | 7 12                  | 1
nearest    5         | 10      | 8 12                  | 1
nearest    5         | 10      | 12 8                  | 0
nearest    5         | 10      | 9 10 11               | 1
nearest    5         | 10      | 5                     | 0
nearest    5         | 10      | 4 16                  | -
nearest    5         | 10      | 4 15                  | 1
nearest    5         | 10      | 8 9x 14               | 2
nearest    5         | 10      | 9 11x 14              | 0
nearest    5         | 10      | 8 8 13                | 1
"""


@pytest.mark.parametrize("line", MATCHES.strip().splitlines()[1:])
@pytest.mark.parametrize("left_first", [True, False])
def test_what_matches(line: str, left_first: bool) -> None:
    """Whichever side comes first; in one batch, or with the watermark going on between."""
    rule, left, at, expected = (cell.split() for cell in line.split("|"))
    tolerance = None if rule[1] == "-" else int(rule[1])
    step = AsofJoin(("k",), rule[0], tolerance)  # type: ignore[arg-type]
    run = Run(step)
    sides = [lefts(int(left[0])), rights(*at)]
    for part in sides if left_first else sides[::-1]:
        if part:
            run.rows(part)
    run.advance(MAX_TIME)
    assert pairs(run) == [(0, None if expected == ["-"] else 100 + int(expected[0]))]


WHEN = """
direction tolerance grace | left at | right at | waits while W is | is given when W is
backward  -         0     | 10      | 7        | 10               | 11
backward  -         3     | 10      | 7        | 13               | 14
backward  -         0     | 10      | -        | 10               | 11
forward   5         0     | 10      | 12       | 12               | 13
forward   5         2     | 10      | 12       | 14               | 15
forward   5         0     | 10      | 10       | 10               | 11
forward   5         0     | 10      | -        | 15               | 16
forward   5         0     | 10      | 15       | 15               | 16
nearest   5         0     | 10      | 12       | 12               | 13
nearest   5         0     | 10      | 9        | 15               | 16
nearest   5         1     | 10      | -        | 16               | 17
"""


@pytest.mark.parametrize("line", WHEN.strip().splitlines()[1:])
def test_when_it_is_given(line: str) -> None:
    """`W - grace` strictly above the time up to which right rows decide: t, the match, or the tolerance's end."""
    rule, left, right, waits, given = (cell.split() for cell in line.split("|"))
    tolerance = None if rule[1] == "-" else int(rule[1])
    run = Run(AsofJoin(("k",), rule[0], tolerance, grace_ms=int(rule[2])))  # type: ignore[arg-type]
    run.rows(lefts(int(left[0])))
    if right != ["-"]:
        run.rows(rights(*right))
    run.advance(int(waits[0]))
    assert run.given.rows == []
    run.advance(int(given[0]))
    run.advance(MAX_TIME)
    assert pairs(run) == [(0, None if right == ["-"] else 100)]


@pytest.mark.parametrize(("how", "expected"), [("left", [(0, None), (1, None)]), ("inner", [])])
@pytest.mark.parametrize("direction", ["backward", "forward", "nearest"])
def test_null_keys_match_nothing(how: AsofHow, direction: Direction, expected: list[tuple[int, None]]) -> None:
    """Not even each other; `how="left"` gives them."""
    run = Run(AsofJoin(("k",), direction, 10, how))
    run.rows(lefts(5, 7, key=None))
    run.rows(rights(5, key=None))
    run.advance(MAX_TIME)
    assert pairs(run) == expected
    assert run.counts.counts["null_key_rows"] == (1 if how == "left" else 3)


def test_a_row_finds_what_was_settled_long_ago() -> None:
    """The newest right row of each key is kept however old it is; what it replaced is not."""
    run = Run(BACKWARD)
    run.rows(rights(1, 2, 3))
    run.rows(rights(2, key="other", first=200))
    run.advance(1_000_000)
    assert run.operator.states[0].rows(1) == 0  # type: ignore[attr-defined]
    assert len(table(run)) == 2
    run.rows(lefts(2_000_000))
    run.advance(MAX_TIME)
    assert pairs(run) == [(0, 102)]


def table(run: Run) -> TableState:
    state = run.operator.states[1]
    assert isinstance(state, TableState)
    return state


@pytest.mark.parametrize(("limit", "left_at", "match"), [(50, 53, 102), (50, 54, None), (0, 3, 102), (0, 4, None)])
@pytest.mark.parametrize("name", ["ttl_ms", "tolerance_ms"])
def test_old_versions_are_forgotten(name: str, limit: int, left_at: int, match: int | None) -> None:
    """With `ttl` or a tolerance a match is at most so old (inclusive), whenever state is freed; and state is freed."""
    limits = {"tolerance_ms": None, "ttl_ms": None} | {name: limit}
    run = Run(replace(BACKWARD, tolerance_ms=limits["tolerance_ms"], ttl_ms=limits["ttl_ms"]))
    run.rows(rights(1, 2, 3))
    run.advance(left_at)
    run.rows(lefts(left_at))
    run.advance(left_at + 1)
    assert pairs(run) == [(0, match)]
    run.advance(left_at + 1_000)
    assert len(table(run)) == 0


def test_a_tombstone_frees_its_key() -> None:
    run = Run(BACKWARD)
    run.rows(rights(1, "3x"))
    run.advance(3)
    assert run.operator.states[0].rows(1) == 1  # type: ignore[attr-defined]
    run.advance(4)
    assert len(table(run)) == 0


# Late rows


@pytest.mark.parametrize("how", ["left", "inner"])
def test_late_left_rows(how: AsofHow) -> None:
    """By 1 ms: counted, on output 1 with the reason, without a match; `how="left"` pads them at once. On the edge: on time."""
    run = Run(replace(BACKWARD, how=how, grace_ms=5))
    run.rows(rights(80))
    run.rows(lefts(94, before=100) + lefts(95, before=100, first=1))
    assert [(row["v"], row["v_right"]) for row in run.late] == [(0, None)]
    assert run.late[0]["late_reason"] == (
        "its time 94 is more than the grace of 5ms behind: the watermark of its partition was 100"
    )
    assert pairs(run) == ([(0, None)] if how == "left" else [])
    assert run.counts.counts["late_rows"] == 1
    run.advance(MAX_TIME)
    assert pairs(run)[-1] == (1, 100)


def test_a_partition_that_woke_is_told_apart() -> None:
    run = Run(BACKWARD)
    run.advance(50)
    run.rows(lefts(49))
    assert "its partition slept, and the task's watermark was 50" in run.late[0]["late_reason"]
    assert run.counts.counts == {"late_rows.partition_woke": 1}


def test_late_right_rows_are_seen_by_what_is_still_to_come() -> None:
    """Counted and told; left rows given before are not corrected, those after see it where it is the newest."""
    run = Run(BACKWARD)
    run.rows(rights(5))
    run.rows(lefts(20))
    run.advance(30)
    run.rows(rights(10, 3, before=30, first=110))
    assert [(row["v"], row["v_right"]) for row in run.late] == [(None, 110), (None, 111)]
    run.rows(lefts(30, first=1))
    run.advance(MAX_TIME)
    assert pairs(run) == [(0, 100), (1, 110)]
    assert run.counts.counts["late_rows"] == 2


def test_a_late_tombstone_is_counted() -> None:
    run = Run(BACKWARD)
    run.rows(rights(5))
    run.advance(30)
    run.rows(rights("10x", before=30, first=110))
    run.rows(lefts(30))
    run.advance(MAX_TIME)
    assert (run.late, pairs(run), run.counts.counts["late_rows"]) == ([], [(0, None)], 1)


# Columns and times


def user_rows(schema: Schema, *values: tuple[object, ...], times: Sequence[int]) -> Batch:
    frame = pl.DataFrame(values, schema=schema.polars(), orient="row")
    before, offset = (pl.lit(value, pl.Int64).alias(name) for value, name in ((MIN_TIME, BEFORE), (-1, OFFSET)))
    return Batch(frame.with_columns(pl.Series(TIME, times, pl.Int64), before, offset))


def test_columns_and_times() -> None:
    """The left's, then the right's but for the key, renamed where taken; the later time."""
    step = AsofJoin(("stock",), "nearest", 10)
    operator = step.build([TRADES, QUOTES])
    run = Run(NEAREST)
    operator.open(run.counts, MIN_TIME)
    list(operator.process(user_rows(TRADES, ("a", 1.5, 1), ("b", 2.5, 2), times=[10, 20]), 0))
    list(operator.process(user_rows(QUOTES, ("a", 1.0, 3), times=[12]), 1))
    list(operator.advance(5))
    (given,) = operator.advance(MAX_TIME)
    names = ["stock", "price", "ts", "bid", "ts_right", TIME, BEFORE, OFFSET]
    assert given.batch.frame.columns == names
    assert given.batch.frame.rows() == [
        ("a", 1.5, 1, 1.0, 3, 12, 5 - 10, -1),
        ("b", 2.5, 2, None, None, 20, 5 - 10, -1),
    ]


@pytest.mark.parametrize("rows", [7, 100_001])
def test_batches_have_a_bounded_size(rows: int) -> None:
    run = Run(BACKWARD)
    run.rows(rights(0))
    list(run.operator.process(batch_of(lefts(*range(rows))), 0))
    sizes = [len(emit.batch) for emit in run.operator.advance(MAX_TIME)]
    assert sizes == ([7] if rows == 7 else [100_000, 1])


def test_several_key_columns_of_any_type() -> None:
    """Floats too: one that is not a finite number equals nothing."""
    schema = Schema.of({"a": "int", "b": "float", "v": "int"})
    operator = AsofJoin(("a", "b")).build([schema, schema])
    operator.open(Run(BACKWARD).counts, MIN_TIME)
    keys = [(1, 0.5), (1, float("nan")), (2, 0.5), (None, 0.5)]
    list(operator.process(user_rows(schema, *[(*key, number) for number, key in enumerate(keys)], times=[1] * 4), 1))
    list(
        operator.process(user_rows(schema, *[(*key, 10 + number) for number, key in enumerate(keys)], times=[2] * 4), 0)
    )
    (given,) = operator.advance(MAX_TIME)
    assert given.batch.frame.select("v", "v_right").rows() == [(10, 0), (11, None), (12, 2), (13, None)]


# What is refused

WRONG = [
    (replace(BACKWARD, direction="back"), "no direction='back'; did you mean 'backward'?"),  # type: ignore[arg-type]
    (replace(BACKWARD, how="outer"), "no how='outer' One of: left, inner"),  # type: ignore[arg-type]
    (replace(FORWARD, tolerance_ms=None), "direction='forward' needs a tolerance"),
    (replace(NEAREST, tolerance_ms=None), "direction='nearest' needs a tolerance"),
    (replace(FORWARD, ttl_ms=5), "frees by its tolerance; leave out ttl"),
    (replace(BACKWARD, tolerance_ms=-1), "tolerance must not be negative, got -1ms"),
    (replace(BACKWARD, ttl_ms=-1), "ttl must not be negative"),
    (replace(BACKWARD, grace_ms=-1), "grace must not be negative"),
    (replace(BACKWARD, tolerance_ms=1 << 60), "must be below"),
    (replace(BACKWARD, on=()), "on= needs a column"),
    (replace(BACKWARD, on=("stok",)), "the left side has no column 'stok'; did you mean 'stock'?"),
    (replace(BACKWARD, on=("price",)), "the right side has no column 'price'"),
    (replace(BACKWARD, on=("stock",), suffix=""), "the right side's column 'ts' would be 'ts', which is taken"),
]


@pytest.mark.parametrize(("step", "text"), WRONG, ids=[text for _, text in WRONG])
def test_a_plan_that_cannot_be_is_refused(step: AsofJoin, text: str) -> None:
    with pytest.raises(PlanError) as error:
        step.output_schemas([TRADES, QUOTES])
    assert "asof_join: " in str(error.value)
    assert text in str(error.value)


def test_rows_that_cannot_be_worked_on_are_rejected() -> None:
    """Tombstones on the left, times out of range on both."""
    run = Run(BACKWARD)
    run.rows([replace(lefts(1)[0], deleted=True), *lefts(1 << 61, 2)])
    run.rows(rights(-(1 << 62), "3x"))
    assert [reason for _, reason in run.counts.rejected] == [
        "an as-of join's left side takes no tombstones; use emit='final' before it",
        f"event time {1 << 61} is out of range",
        f"event time {-(1 << 62)} is out of range",
    ]
    run.advance(MAX_TIME)
    assert pairs(run) == [(1, None)]
    assert DELETED not in run.given.rows[0]


def test_a_column_that_cannot_be_a_key_is_refused() -> None:
    schema = Schema.of({"k": pl.Duration("ms")})
    with pytest.raises(PlanError, match=r"asof_join: on=\(k\) cannot be a key"):
        AsofJoin(("k",)).output_schemas([schema, schema])


def test_it_describes_itself() -> None:
    assert replace(NEAREST, grace_ms=5).describe() == {
        **{"on": "k", "direction": "nearest", "tolerance": "10ms"},
        **{"how": "left", "grace": "5ms", "suffix": "_right"},
    }
    assert [
        step.delay_ms for step in (replace(BACKWARD, tolerance_ms=7, grace_ms=5), replace(FORWARD, grace_ms=5))
    ] == [5, 15]


@pytest.mark.parametrize("direction", ["backward", "nearest"])
def test_a_shorter_grace_or_tolerance_on_kept_rows(direction: Direction) -> None:
    """What was not decided when the code changed is given by the new rules, and not lost."""
    run = Run(AsofJoin(("k",), direction, 50, grace_ms=20))
    run.rows(rights(80))
    run.rows(lefts(90))
    run.advance(100)
    run.commit()
    run.step = replace(run.step, grace_ms=0, tolerance_ms=5)
    run.crash()
    run.advance(101)
    assert pairs(run) == [(0, None)]
