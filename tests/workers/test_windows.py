"""Tumbling and hopping windows: the rules with edges, as tables; plans that are refused; rows that cannot be worked on."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from millstream.state.key_codes import KeyCodes
from millstream.topics.batch import BEFORE, DELETED, MAX_TIME, MIN_TIME, OFFSET, TIME, Batch
from millstream.topics.errors import ConfigurationError
from millstream.topics.schema import Schema
from millstream.workers.errors import PlanError
from millstream.workers.operators.window_aggregate import WindowAggregate, WindowOperator
from millstream.workers.reducer import parse_reducer
from millstream.workers.windows.hopping import hopping
from millstream.workers.windows.sliding import sliding
from millstream.workers.windows.tumbling import tumbling
from tests.oracles.windows import windows_of
from tests.workers.window_run import Counts, Event, batch_of

SCHEMA = Schema.of({"user": "string", "n": "int"})
COUNT = (("n", parse_reducer("count()")),)


def opened(
    window, grace_ms=0, emit="update", by=("user",), schema=SCHEMA, aggregates=COUNT
) -> tuple[WindowOperator, Counts]:
    operator, context = WindowAggregate(window, by, aggregates, grace_ms, emit).build([schema]), Counts()
    operator.open(context, MIN_TIME)
    return operator, context


def row(time, before=MIN_TIME, user="a", n=1) -> Event:
    return Event(0, time, {"user": user, "n": n}, before)


def rows_of(emits, output=0):
    return [r for emit in emits if emit.output == output for r in emit.batch.frame.to_dicts()]


def counted(emits):
    return [(r["user"], r["window_start"], r["window_end"], r["n"]) for r in rows_of(emits)]


@pytest.mark.parametrize(
    ("window", "time", "starts"),
    [
        # Tumbling: the start is inside, the end is not; below zero by floor division.
        (tumbling(10), 0, [0]),
        (tumbling(10), 9, [0]),
        (tumbling(10), 10, [10]),
        (tumbling(10), -1, [-10]),
        (tumbling(10), -10, [-10]),
        (tumbling(10), -11, [-20]),
        (tumbling(10, offset=3), 2, [-7]),
        (tumbling(10, offset=3), 3, [3]),
        (tumbling(10, offset=-3), 6, [-3]),
        (tumbling(10, offset=23), 12, [3]),
        (tumbling("1d", offset="-2h"), 79_200_000, [79_200_000]),
        # Hopping: every window that covers the time.
        (hopping(10, 5), 0, [-5, 0]),
        (hopping(10, 5), 4, [-5, 0]),
        (hopping(10, 5), 5, [0, 5]),
        # The size is no multiple of the hop: now two windows, now three.
        (hopping(10, 4), 1, [-8, -4, 0]),
        (hopping(10, 4), 2, [-4, 0]),
        (hopping(10, 4), 3, [-4, 0]),
        (hopping(10, 4), 4, [-4, 0, 4]),
        # A hop longer than the size leaves gaps.
        (hopping(3, 10), 2, [0]),
        (hopping(3, 10), 3, []),
        (hopping(3, 10), 9, []),
        (hopping(3, 10, offset=-1), 9, [9]),
        (sliding(10, 5), 7, [0, 5]),
    ],
)
def test_a_time_is_in_these_windows(window, time, starts):
    rows, ends = window.assign(np.array([time]))
    found = window.starts(ends)
    assert sorted(found.tolist()) == starts == windows_of(time, window.size_ms, window.hop_ms, window.offset_ms)
    assert rows is None or rows.tolist() == [0] * len(starts)


@pytest.mark.parametrize(
    ("before", "grace", "counts"),
    [
        # [0, 10): late iff the watermark before the row >= end + grace.
        (9, 0, True),
        (10, 0, False),
        (14, 5, True),
        (15, 5, False),
        (16, 5, False),
    ],
)
@pytest.mark.parametrize("judged_by", ["its own partition", "the task"])
def test_a_row_is_late_from_this_watermark_on(before, grace, counts, judged_by):
    operator, context = opened(tumbling(10), grace)
    if judged_by == "the task":
        operator.advance(before)
    late = operator.process(batch_of([row(5, before if judged_by != "the task" else 3)], SCHEMA), 0)
    assert counted(operator.flush()) == ([("a", 0, 10, 1)] if counts else [])
    what = "late_rows" if judged_by != "the task" else "late_rows.partition_woke"
    assert context.counts == ({} if counts else {what: 1, "late_window_rows": 1})
    assert [r["late_reason"] for r in rows_of(late, 1)] == (
        []
        if counts
        else [
            f"its last window ended at 10 and closed at {10 + grace}, "
            + (
                f"the watermark of its partition was {before}"
                if judged_by != "the task"
                else f"its partition slept, and the task's watermark was {before}"
            )
        ]
    )


def test_a_hopping_row_late_for_one_window_counts_in_the_other():
    operator, context = opened(hopping(10, 5))
    assert operator.process(batch_of([row(7, before=10)], SCHEMA), 0) == []
    assert counted(operator.flush()) == [("a", 5, 15, 1)]
    assert context.counts == {"late_window_rows": 1}


def test_a_row_in_a_gap_is_in_no_window_and_not_late():
    operator, context = opened(hopping(3, 10))
    assert operator.process(batch_of([row(5, before=1_000)], SCHEMA), 0) == []
    assert operator.flush() == ()
    assert context.counts == {"rows_in_no_window": 1}


@pytest.mark.parametrize(
    ("watermark", "closed"),
    [(14, []), (15, [("a", 0, 10, 2)]), (24, [("a", 0, 10, 2)]), (25, [("a", 0, 10, 2), ("b", 10, 20, 1)])],
)
def test_a_window_is_given_once_its_end_and_grace_have_passed(watermark, closed):
    """Final: once, at `W >= end + grace`, oldest first; a jump closes all it passes."""
    operator, _ = opened(tumbling(10), grace_ms=5, emit="final")
    operator.process(batch_of([row(0), row(9), row(10, user="b")], SCHEMA), 0)
    assert operator.flush() == ()
    assert counted(operator.advance(watermark)) == closed
    assert operator.advance(watermark) == ()
    assert counted(operator.advance(MAX_TIME)) == [r for r in [("a", 0, 10, 2), ("b", 10, 20, 1)] if r not in closed]


def test_results_are_timed_by_their_window_and_never_behind_the_watermark_passed_on():
    """TIME is `window_end - 1`, BEFORE the watermark passed on before: the input's, lowered by the grace."""
    operator, _ = opened(tumbling(10), grace_ms=5, emit="final")
    operator.advance(3)
    operator.process(batch_of([row(4)], SCHEMA), 0)
    (result,) = rows_of(operator.advance(40))
    assert (result[TIME], result[BEFORE], result[OFFSET]) == (9, -2, -1)
    assert operator.delay_ms == 5


def test_update_gives_the_net_change_of_a_commit():
    operator, _ = opened(tumbling(10))
    operator.process(batch_of([row(1), row(2), row(3, user="b")], SCHEMA), 0)
    assert sorted(counted(operator.flush())) == [("a", 0, 10, 2), ("b", 0, 10, 1)]
    assert operator.flush() == ()
    operator.process(batch_of([row(4)], SCHEMA), 0)
    assert counted(operator.flush()) == [("a", 0, 10, 3)]
    assert operator.advance(10) == (), "nothing changed since it was given"


def test_a_window_opened_and_freed_within_one_commit_is_still_given_and_never_logged():
    operator, _ = opened(tumbling(10))
    operator.process(batch_of([row(1)], SCHEMA), 0)
    assert counted(operator.advance(10)) == [("a", 0, 10, 1)]
    assert operator.flush() == ()
    state = operator.state
    (changes,) = state.take_changes()
    assert changes.keys.to_pylist() == [b"\x00closed"]
    assert state.size_bytes == 0


@pytest.mark.parametrize("closed", [10, 0, -10])
def test_state_lost_to_the_offsets_does_not_open_closed_windows_again(closed):
    """The larger of the committed watermark and the one kept with the windows wins."""
    first, _ = opened(tumbling(10))
    first.process(batch_of([row(closed - 9)], SCHEMA), 0)
    first.advance(closed)
    again = WindowAggregate(tumbling(10), ("user",), COUNT).build([SCHEMA])
    again.states[0].restore([], first.states[0].take_changes())
    context = Counts()
    again.open(context, MIN_TIME)
    again.process(batch_of([row(closed - 9)], SCHEMA), 0)
    assert again.flush() == ()
    assert context.counts["late_rows.partition_woke"] == 1


def test_rows_without_a_key_are_rejected_each_with_its_reason():
    schema = Schema.of({"user": "string", "x": "float", "n": "int"})
    operator, context = opened(tumbling(10), by=("user", "x"), schema=schema)
    data = {"user": ["a", None, "a", "a", "b"], "x": [1.0, 1.0, None, float("nan"), 2.0], "n": [1, 2, 3, 4, 5]}
    internal = {TIME: [1] * 5, BEFORE: [MIN_TIME] * 5, OFFSET: list(range(5))}
    operator.process(Batch(pl.DataFrame({**data, **internal})), 0)
    assert [(r["n"], reason) for r, reason in context.rejected] == [
        (2, "key column 'user' is null"),
        (3, "key column 'x' is null"),
        (4, "key column 'x' is not a finite number"),
    ]
    assert sorted((r["user"], r["x"], r["n"]) for r in rows_of(operator.flush())) == [("a", 1.0, 1), ("b", 2.0, 1)]


def test_tombstones_are_rejected():
    operator, context = opened(tumbling(10))
    frame = batch_of([row(1), row(2)], SCHEMA).frame.with_columns(pl.Series(DELETED, [True, False]))
    operator.process(Batch(frame), 0)
    assert [reason.split(";")[0] for _, reason in context.rejected] == ["a tombstone cannot be counted"]
    assert counted(operator.flush()) == [("a", 0, 10, 1)]


def test_a_batch_of_rejected_rows_only_is_fine():
    operator, context = opened(tumbling(10))
    assert list(operator.process(batch_of([row(1, user=None)], SCHEMA), 0)) == []
    assert len(context.rejected) == 1
    assert operator.flush() == ()


@pytest.mark.parametrize(
    "data",
    [
        {"a": pl.Series([7, -(1 << 63), (1 << 63) - 1])},
        {"a": pl.Series([True, False, True])},
        {"a": pl.Series([b"x", b"", b"\xff"])},
        {"a": pl.Series([0, 1, 2]).cast(pl.Datetime("ms", "UTC"))},
        {"a": pl.Series(["x", "", 'q"']), "b": pl.Series([1, 2, 3])},
    ],
    ids=["int", "bool", "bytes", "datetime", "two"],
)
def test_keys_of_any_type_come_back_as_they_were(data):
    schema = Schema.of({name: column.dtype for name, column in data.items()})
    operator, _ = opened(tumbling(10), by=tuple(data), schema=schema)
    frame = pl.DataFrame({**data, TIME: [1, 2, 3], BEFORE: [MIN_TIME] * 3, OFFSET: [0, 1, 2]})
    operator.process(Batch(frame), 0)
    (emit,) = operator.flush()
    expected = pl.DataFrame(data).group_by(list(data)).agg(n=pl.len().cast(pl.Int64))
    got = emit.batch.frame.select(*data, "n")
    assert got.schema == expected.schema
    assert sorted(got.rows()) == sorted(expected.rows())


@pytest.mark.parametrize(
    ("by", "aggregates", "message"),
    [
        (("usr",), COUNT, "did you mean 'user'?"),
        ((), COUNT, "by= needs a column"),
        (("user",), (), "at least one reducer"),
        (("user",), (("x", parse_reducer("sum(m)")),), "window tumbling 10ms, x=sum(m): sum names no column 'm'"),
        (("user",), (("x", parse_reducer("sum(user)")),), "x=sum(user): sum takes integers"),
        (("user",), (("user", parse_reducer("count()")),), "two result columns are named 'user'"),
        (("user",), (("window_end", parse_reducer("count()")),), "two result columns are named 'window_end'"),
        (("user",), (COUNT[0], COUNT[0]), "two result columns are named 'n'"),
    ],
)
def test_plans_that_are_refused(by, aggregates, message):
    with pytest.raises(PlanError) as refused:
        WindowAggregate(tumbling(10), by, aggregates).output_schemas([SCHEMA])
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        (lambda: tumbling(0), PlanError, "size must be longer than 0"),
        (lambda: tumbling("-1s"), PlanError, "size must be longer than 0, got -1s"),
        (lambda: hopping("10s", 0), PlanError, "hop must be longer than 0"),
        (lambda: hopping("1d", "1ms"), PlanError, "86400000 windows"),
        (lambda: tumbling("ten"), ConfigurationError, "tumbling size: 'ten' is not a duration"),
    ],
)
def test_windows_that_are_refused(made, error, message):
    with pytest.raises(error) as refused:
        made()
    assert message in str(refused.value)


def test_windows_are_values_that_say_what_they_are():
    assert tumbling("10s") == tumbling(10_000)
    assert sliding("1m", "10s") == hopping(60_000, 10_000)
    assert tumbling("10s").describe() == "tumbling 10s"
    assert hopping("1m", "10s", offset="5s").describe() == "hopping 1m, hop 10s, offset 5s"
    step = tumbling("10s").aggregate(("user",), COUNT, 500, "final")
    assert step == WindowAggregate(tumbling("10s"), ("user",), COUNT, 500, "final")
    assert step.describe() == {
        "window": "tumbling 10s",
        "by": "user",
        "grace": "500ms",
        "emit": "final",
        "n": "count()",
    }
    assert step.output_schemas([SCHEMA])[0] == Schema.of(
        {"user": "string", "window_start": "int", "window_end": "int", "n": "int"}
    )


def test_far_times_and_wide_batches():
    """A batch that spans 8,000 years, and rows of a window of many hops."""
    operator, _ = opened(hopping(1_000, 1))
    operator.process(batch_of([row(-(1 << 47)), row(1 << 47), row(0)], SCHEMA), 0)
    assert len(counted(operator.flush())) == 3_000


class TestKeyCodes:
    def test_codes_are_renewed_when_most_are_dead(self):
        codes = KeyCodes()
        texts = pl.Series([f"k{i}" for i in range(70_000)])
        old = codes.codes(texts)
        assert codes.should_renew
        live = np.zeros(codes.size, np.bool_)
        live[old[::100]] = True
        new_of = codes.renew(live)
        assert new_of is not None
        assert codes.size < 1_000
        assert not codes.should_renew
        kept = new_of[old[::100]]
        assert codes.texts(kept).to_list() == texts.gather_every(100).to_list()
        assert (codes.codes(texts.gather_every(100)) == kept).all()
        assert (np.delete(new_of[old], np.arange(0, 70_000, 100)) == -1).all()

    def test_they_stay_while_most_live(self):
        codes = KeyCodes()
        codes.codes(pl.Series([f"k{i}" for i in range(70_000)]))
        assert codes.renew(np.ones(codes.size, np.bool_)) is None
        assert not codes.should_renew

    def test_two_dictionaries_in_one_process_are_apart(self):
        one, other = KeyCodes(), KeyCodes()
        assert one.codes(pl.Series(["a", "b"])).tolist() == other.codes(pl.Series(["b", "a"])).tolist()
        assert one.texts(np.array([1])).to_list() == ["a"]
        assert other.texts(np.array([1])).to_list() == ["b"]


def test_windows_outlive_the_renewal_of_their_keys():
    """Keys come and go by the ten thousand; what is open stays right, and the dictionary stays small."""
    operator, _ = opened(tumbling(10), grace_ms=25, emit="final")
    state = operator.state
    given: list[tuple] = []
    for step in range(12):
        users = [f"{step}-{i}" for i in range(8_000)] + ["always"]
        frame = pl.DataFrame({"user": users, "n": [1] * len(users), TIME: [step * 10] * len(users)})
        frame = frame.with_columns(pl.lit(MIN_TIME).alias(BEFORE), pl.lit(0).alias(OFFSET))
        operator.process(Batch(frame), 0)
        given += counted(operator.advance(step * 10))
    given += counted(operator.advance(MAX_TIME))
    assert len(given) == len(set(given)) == 12 * 8_001
    assert {r[3] for r in given} == {1}
    assert [r[1] for r in given if r[0] == "always"] == [step * 10 for step in range(12)]
    assert state._codes.size < 12 * 8_001, "it was renewed"
