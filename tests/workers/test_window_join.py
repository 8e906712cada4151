"""The window join: which pairs, when they are given, lateness, null keys, columns, what is refused, what is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from millstream import count_window, cumulative, hopping, session, tumbling
from millstream.topics.batch import BEFORE, MAX_TIME, MIN_TIME, OFFSET, TIME
from millstream.topics.schema import Schema
from millstream.workers.errors import PlanError
from millstream.workers.operators.interval_join import How
from millstream.workers.operators.window_join import WindowJoin
from millstream.workers.window import Window
from tests.oracles.window_join import Row
from tests.workers.waiting_join_run import Run, batch_of

TEN = WindowJoin(tumbling(10), ("k",))
KINDS: dict[str, Window] = {
    "tumbling": tumbling(10),
    "shifted": tumbling(10, offset=3),
    "hopping": hopping(10, 5),
    "uneven": hopping(10, 4),
    "gaps": hopping(5, 10),
    "session": session(10),
}


def rows(side: int, *times: int, key: str | None = "k", before: int = MIN_TIME, first: int = 0) -> list[Row]:
    """Their values count from `first` (lefts) or from 100 + first (rights)."""
    return [Row(side, key, time, 100 * side + first + number, before) for number, time in enumerate(times)]


def results(run: Run) -> list[tuple[int, int, int | None, int | None]]:
    return [(row["window_start"], row["window_end"], row["v"], row["v_right"]) for row in run.given.rows]


def told(run: Run) -> str:
    """`0-10: 0+100 1+_`, windows and pairs by value."""
    windows: dict[tuple[int, int], list[str]] = {}
    for start, end, left, right in results(run):
        windows.setdefault((start, end), []).append(
            f"{'_' if left is None else left}+{'_' if right is None else right}"
        )
    return " ".join(f"[{start},{end}) {' '.join(found)}" for (start, end), found in windows.items())


WINDOWS = """
window   | lefts at | rights at | outer join gives
tumbling | 0 9      | 5         | [0,10) 0+100 1+100
tumbling | 9        | 10        | [0,10) 0+_ [10,20) _+100
tumbling | -1       | 0 -10     | [-10,0) 0+101 [0,10) _+100
tumbling | 1 2      | 3 4       | [0,10) 0+100 0+101 1+100 1+101
tumbling | 1        |           | [0,10) 0+_
tumbling |          | 1         | [0,10) _+100
tumbling | 5        | 1000005   | [0,10) 0+_ [1000000,1000010) _+100
shifted  | 2 3      | 12        | [-7,3) 0+_ [3,13) 1+100
hopping  | 5        | 12        | [0,10) 0+_ [5,15) 0+100 [10,20) _+100
hopping  | 6        | 7         | [0,10) 0+100 [5,15) 0+100
uneven   | 3        | 4         | [-4,6) 0+100 [0,10) 0+100 [4,14) _+100
gaps     | 4 5      | 4 9       | [0,5) 0+100
gaps     | -10 -5   | -6        | [-10,-5) 0+100
session  | 0        | 9         | [0,19) 0+100
session  | 0        | 10        | [0,10) 0+_ [10,20) _+100
session  | 0 18     | 9         | [0,28) 0+100 1+100
session  | -5       | -14       | [-14,5) 0+100
session  | 0 9 18   | 50        | [0,28) 0+_ 1+_ 2+_ [50,60) _+100
"""


@pytest.mark.parametrize("line", WINDOWS.strip().splitlines()[1:])
@pytest.mark.parametrize("left_first", [True, False])
@pytest.mark.parametrize("how", ["inner", "left", "right", "outer"])
def test_pairs_of_a_window(line: str, left_first: bool, how: How) -> None:
    """All pairs in each window, a row in several windows in each; `[start, end)`; sessions over both sides."""
    kind, left, right, expected = (cell.strip() for cell in line.split("|"))
    run = Run(WindowJoin(KINDS[kind], ("k",), how))
    sides = [rows(side, *map(int, times.split())) for side, times in enumerate((left, right))]
    for part in sides if left_first else sides[::-1]:
        if part:
            run.rows(part)
    run.advance(MAX_TIME)
    outer = [
        (*(int(number) for number in window[:-1].split(",")), *pair.split("+"))
        for window, *pairs in (piece.split() for piece in expected.split("[")[1:])
        for pair in pairs
    ]
    wanted = [
        one
        for one in outer
        if ("_" not in one[2:])
        or (one[3] == "_" and how in ("left", "outer"))
        or (one[2] == "_" and how in ("right", "outer"))
    ]
    found = [(s, e, "_" if a is None else str(a), "_" if b is None else str(b)) for s, e, a, b in results(run)]
    assert sorted(found) == sorted(wanted)


WHEN = """
window   grace | left at | waits while W is | is given when W is
tumbling 0     | 3       | 9                | 10
tumbling 5     | 3       | 14               | 15
hopping  0     | 6       | 9                | 10
session  0     | 3       | 12               | 13
session  4     | 3       | 16               | 17
"""


@pytest.mark.parametrize("line", WHEN.strip().splitlines()[1:])
@pytest.mark.parametrize("key", ["k", None])
def test_when_it_is_given(line: str, key: str | None) -> None:
    """`W >= window_end + grace`, once."""
    rule, time, waits, given = (cell.split() for cell in line.split("|"))
    run = Run(WindowJoin(KINDS[rule[0]], ("k",), "left", int(rule[1])))
    run.rows(rows(0, int(time[0]), key=key))
    run.advance(int(waits[0]))
    assert run.given.rows == []
    run.advance(int(given[0]))
    assert len(run.given.rows) == 1
    run.commit()
    run.crash()
    run.advance(int(given[0]) + 1)
    assert len(run.given.rows) == 1


LATE = """
window   grace | at | partition was at | late for all | windows
tumbling 0     | 5  | 9                | no           | [0,10)
tumbling 0     | 5  | 10               | yes          |
tumbling 3     | 5  | 12               | no           | [0,10)
tumbling 3     | 5  | 13               | yes          |
hopping  0     | 7  | 9                | no           | [0,10) [5,15)
hopping  0     | 7  | 10               | no           | [5,15)
hopping  0     | 7  | 15               | yes          |
session  0     | 5  | 14               | no           | [5,15)
session  0     | 5  | 15               | yes          |
"""


@pytest.mark.parametrize("line", LATE.strip().splitlines()[1:])
def test_late_rows(line: str) -> None:
    """By the watermark of their own partition, window by window; late by 1 ms. An outer side does not pad them."""
    rule, time, before, late, windows = (cell.split() for cell in line.split("|"))
    run = Run(WindowJoin(KINDS[rule[0]], ("k",), "outer", int(rule[1])))
    run.rows(rows(0, int(time[0]), before=int(before[0])))
    run.advance(MAX_TIME)
    assert [f"[{start},{end})" for start, end, *_ in results(run)] == windows
    assert len(run.late) == (late == ["yes"])
    assert run.counts.counts.get("late_rows", 0) == (late == ["yes"])


def test_the_reason_is_told() -> None:
    run = Run(replace(TEN, grace_ms=3))
    run.rows(rows(1, 5, before=13))
    assert run.late[0] | {"v_right": 100, "v": None} == run.late[0]
    assert run.late[0]["late_reason"] == "its last window closed at 13, the watermark of its partition was 13"
    run.advance(50)
    run.rows(rows(0, 5))
    assert (
        run.late[1]["late_reason"]
        == "its last window closed at 13, its partition slept, and the task's watermark was 50"
    )
    assert run.counts.counts == {"late_rows": 1, "late_rows.partition_woke": 1, "late_window_rows": 2}


def test_a_late_row_that_a_session_reaches_counts_in_it() -> None:
    """Lateness is judged for the merged session, whichever side holds it open."""
    run = Run(replace(TEN, window=session(10)))
    run.rows(rows(1, 12))
    run.rows(rows(0, 5, before=16))
    run.advance(MAX_TIME)
    assert told(run) == "[5,22) 0+100"


@pytest.mark.parametrize("kind", ["tumbling", "session"])
@pytest.mark.parametrize(("how", "expected"), [("inner", []), ("left", [0]), ("right", [100]), ("outer", [0, 100])])
def test_null_keys_match_nothing(kind: str, how: How, expected: list[int]) -> None:
    """Not even each other; an outer side gives them when their window closes."""
    run = Run(WindowJoin(KINDS[kind], ("k",), how))
    run.rows(rows(0, 5, key=None))
    run.rows(rows(1, 5, key=None))
    run.advance(MAX_TIME)
    end = 10 if kind == "tumbling" else 15
    assert sorted((e, a if b is None else b) for _, e, a, b in results(run)) == [(end, value) for value in expected]
    assert run.counts.counts["null_key_rows"] == 2


def test_rows_in_no_window_are_counted() -> None:
    run = Run(replace(TEN, window=KINDS["gaps"], how="outer"))
    run.rows(rows(0, 5, 9, 10))
    run.advance(MAX_TIME)
    assert (told(run), run.counts.counts["rows_in_no_window"]) == ("[10,15) 2+_", 2)


def test_columns_and_times() -> None:
    """Keys, the window, the left's others, the right's others, renamed where taken; time and delay as of any window."""
    views = Schema.of({"page": "string", "user": "string", "ts": "timestamp_ms"})
    orders = Schema.of({"user": "string", "price": "float", "ts": "timestamp_ms"})
    step = WindowJoin(tumbling(10), ("user",), "outer", 5)
    results, late = step.output_schemas([views, orders])
    assert results.names == ["user", "window_start", "window_end", "page", "ts", "price", "ts_right"]
    assert late.names == ["page", "user", "ts", "price", "ts_right", "late_reason"]
    operator = step.build([views, orders])
    operator.open(Run(TEN).counts, MIN_TIME)
    for side, frame in enumerate(
        (
            pl.DataFrame([("/", "ada", 1)], schema=views.polars(), orient="row"),
            pl.DataFrame([("ada", 2.5, 2), ("bob", 1.0, 3)], schema=orders.polars(), orient="row"),
        )
    ):
        internal = [pl.col("ts").alias(TIME), pl.lit(MIN_TIME).alias(BEFORE), pl.lit(7).alias(OFFSET)]
        list(operator.process(batch_of(rows(0, 1)).replaced(frame.with_columns(internal)), side))
    list(operator.advance(12))
    given = pl.concat([emit.batch.frame for emit in operator.advance(15)])
    assert given.columns == [*results.names, TIME, BEFORE, OFFSET]
    assert given.rows() == [
        ("ada", 0, 10, "/", 1, 2.5, 2, 9, 7, -1),
        ("bob", 0, 10, None, None, 1.0, 3, 9, 7, -1),
    ]
    assert operator.delay_ms == 5


@pytest.mark.parametrize("window", [tumbling(1_000_000), session(1_000_000)])
def test_a_hot_key_is_given_in_batches_made_one_after_the_other(window: Window) -> None:
    """A million pairs are ten batches; none is made before it is asked for."""
    run = Run(WindowJoin(window, ("k",), "outer"))
    list(run.operator.process(batch_of(rows(0, *range(1_000))), 0))
    list(run.operator.process(batch_of(rows(1, *range(1_000))), 1))
    given = iter(run.operator.advance(MAX_TIME))
    assert not isinstance(given, list)
    assert [len(emit.batch) for emit in given] == [100_000] * 10


def test_many_windows_close_at_once() -> None:
    """A jump of time over windows without rows costs nothing; rows in very many windows are worked on in pieces."""
    run = Run(WindowJoin(hopping(1_000, 1), ("k",)))
    list(run.operator.process(batch_of(rows(0, *range(0, 3_000, 2))), 0))
    list(run.operator.process(batch_of(rows(1, 1_000_000_000, 500)), 1))
    given = [emit.batch.frame for emit in run.operator.advance(MAX_TIME)]
    pairs = sum(1_000 - abs(500 - time) for time in range(0, 3_000, 2) if abs(500 - time) < 1_000)
    assert sum(map(len, given)) == pairs


def test_state_is_freed_as_windows_close() -> None:
    """In memory and in the changelog; a long session does not hold back what others left."""
    run = Run(replace(TEN, window=session(10)))
    for time in range(0, 400_000, 8):
        if time % 8_000 == 0:
            run.rows(rows(0, *range(time, time + 8_000, 8), key="always"))
            run.rows(rows(1, *range(time, time + 8_000, 200), key="now and then"))
            run.advance(time + 7_000)
            run.commit()
    log: Any = run.operator.states[0]
    assert (log.rows(0), log.rows(1)) == (50_000, 5)
    run.advance(MAX_TIME)
    run.commit()
    assert (log.rows(0), log.rows(1)) == (0, 0)


# What is refused

WRONG = [
    (replace(TEN, window=cumulative(10, 5)), "no join in cumulative 10ms, step 5ms"),
    (replace(TEN, window=count_window(5)), "count windows are for aggregations; join in tumbling, hopping or session"),
    (replace(TEN, how="lefft"), "no how='lefft'; did you mean 'left'?"),  # type: ignore[arg-type]
    (replace(TEN, grace_ms=-1), "grace must not be negative"),
    (replace(TEN, window=tumbling(1 << 60)), "must be below"),
    (replace(TEN, on=()), "on= needs a column"),
    (replace(TEN, on=("w",)), "the left side has no column 'w'"),
    (replace(TEN, suffix=""), "which is taken"),
]


@pytest.mark.parametrize(("step", "text"), WRONG, ids=[text for _, text in WRONG])
def test_a_plan_that_cannot_be_is_refused(step: WindowJoin, text: str) -> None:
    schema = Schema.of({"k": "string", "v": "int"})
    with pytest.raises(PlanError) as error:
        step.output_schemas([schema, schema])
    assert "window_join: " in str(error.value)
    assert text in str(error.value)


def test_a_side_that_has_windows_already_is_refused() -> None:
    with pytest.raises(PlanError, match="have a column 'window_start'"):
        TEN.output_schemas([Schema.of({"k": "string", "window_start": "int"}), Schema.of({"k": "string"})])


def test_a_column_that_cannot_be_a_key_is_refused() -> None:
    schema = Schema.of({"k": pl.Duration("ms")})
    with pytest.raises(PlanError, match=r"window_join: on=\(k\) cannot be a key"):
        TEN.output_schemas([schema, schema])


def test_it_describes_itself() -> None:
    assert replace(TEN, window=hopping(10, 5), grace_ms=7).describe() == {
        **{"window": "hopping 10ms, hop 5ms", "on": "k", "how": "inner", "grace": "7ms", "suffix": "_right"}
    }


@pytest.mark.parametrize("window", [tumbling(10), session(10)])
@pytest.mark.parametrize("key", ["k", None])
def test_a_shorter_grace_on_kept_rows(window: Window, key: str | None) -> None:
    """Windows that were open when the code changed close by the new rule, and are not lost."""
    run = Run(WindowJoin(window, ("k",), "outer", 50))
    run.rows(rows(0, 5, key=key))
    run.advance(40)
    run.commit()
    run.step = replace(run.step, grace_ms=0)
    run.crash()
    run.advance(41)
    assert [row["v"] for row in run.given.rows] == [0]
