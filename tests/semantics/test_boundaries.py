"""The edges of sections 2 and 3 on whole pipelines, as tables in text: a row on each side of every `<` and `<=`.

Each line runs bounded and streaming, with a crash after every row; both give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
import pytest

from millstream.workers.app import App
from millstream.workers.batch_run import run_batch
from millstream.workers.driver import Driver
from millstream.workers.reducers.collect import Collect
from millstream.workers.reducers.count import Count
from millstream.workers.stream import Stream
from millstream.workers.window import Window
from millstream.workers.windows.count import count
from millstream.workers.windows.cumulative import cumulative
from millstream.workers.windows.hopping import hopping
from millstream.workers.windows.session import session
from millstream.workers.windows.tumbling import tumbling
from tests.semantics.stage import SCHEMA, row, source

Build = Callable[[Stream, Stream], Stream]
LAG_MS = 1_000
"""So that rows may come in the order in which a table is best read."""


def _app(build: Build, lag_ms: int) -> App:
    app = App("edges", watermark_interval_ms=1)
    build(*(app.stream(source(app, name, out_of_order=lag_ms)) for name in ("a", "b"))).to("out")
    return app


def _rows(text: str, side: str) -> list[dict[str, Any]]:
    """`5 7x -3:k2 9:-`: times, each its row's `x` too; `:` and a key, `-` for null. The key is `k` where none is said."""
    found = []
    for word in text.split():
        time, _, key = word.partition(":")
        found.append(row(int(time), None if key == "-" else key or "k", side, int(time)))
    return found


def _given(build: Build, a: str, b: str, lag_ms: int = LAG_MS) -> list[dict[str, Any]]:
    """Bounded and streaming, the same."""
    rows = {"a": _rows(a, "a"), "b": _rows(b, "b")}
    app = _app(build, lag_ms)
    driver = Driver(app)
    for topic, some in rows.items():
        for one in some:
            driver.send(topic, [one])
            driver.commit()
            driver.crash()
    driver.end()
    streamed = driver.rows("out")
    read = {one.topic.name for sub in app.plan().subs for one in sub.sources}
    bounded = run_batch(app, {name: _frame(some) for name, some in rows.items() if name in read})["out"].to_dicts()
    assert sorted(map(str, bounded)) == sorted(map(str, streamed))
    return streamed


def _frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), {"k": pl.String, "g": pl.String, "x": pl.Int64, "at": pl.Int64})


# -- windows: `start-end: times`, of each key

WINDOWS: dict[str, Window] = {
    "tumbling 10": tumbling("10ms"),
    "tumbling 10 +3": tumbling("10ms", offset="3ms"),
    "tumbling 10 -13": tumbling("10ms", offset="-13ms"),
    "hopping 10 4": hopping("10ms", "4ms"),
    "hopping 4 10": hopping("4ms", "10ms"),
    "session 5": session("5ms"),
    "session 1": session("1ms"),
    "cumulative 6 2": cumulative("6ms", "2ms"),
}

WINDOW_EDGES = """
tumbling 10     |                     |
tumbling 10     | 0                   | 0-10:0
tumbling 10     | 9 10                | 0-10:9 10-20:10
tumbling 10     | -1 0                | -10-0:-1 0-10:0
tumbling 10     | -10 -11             | -20--10:-11 -10-0:-10
tumbling 10     | 5 5 5               | 0-10:5,5,5
tumbling 10     | 0 100000            | 0-10:0 100000-100010:100000
tumbling 10     | 3:- 4               | 0-10:4
tumbling 10 +3  | 2 3 12 13           | -7-3:2 3-13:3,12 13-23:13
tumbling 10 -13 | -4 -3 6 7           | -13--3:-4 -3-7:-3,6 7-17:7
hopping 10 4    | 0                   | -8-2:0 -4-6:0 0-10:0
hopping 10 4    | 2                   | -4-6:2 0-10:2
hopping 10 4    | -9 -8               | -16--6:-9,-8 -12--2:-9,-8 -8-2:-8
hopping 4 10    | 0 3 4 9 10          | 0-4:0,3 10-14:10
hopping 4 10    | 5                   |
session 5       | 0 4                 | 0-9:0,4
session 5       | 0 5                 | 0-5:0 5-10:5
session 5       | 0 5 2               | 0-10:0,2,5
session 5       | 8 0 4               | 0-13:0,4,8
session 5       | 9 0 4               | 0-9:0,4 9-14:9
session 5       | -5 -1               | -5-4:-5,-1
session 5       | -5 0                | -5-0:-5 0-5:0
session 1       | 0 0 1               | 0-1:0,0 1-2:1
session 5       |                     |
cumulative 6 2  | 0                   | 0-2:0 0-4:0 0-6:0
cumulative 6 2  | 1 2                 | 0-2:1 0-4:1,2 0-6:1,2
cumulative 6 2  | 4                   | 0-6:4
cumulative 6 2  | 5 6                 | 0-6:5 6-8:6 6-10:6 6-12:6
cumulative 6 2  | -1                  | -6-0:-1
"""


def _lines(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.mark.parametrize("line", _lines(WINDOW_EDGES))
def test_these_times_are_in_these_windows(line: str) -> None:
    name, times, expected = (part.strip() for part in line.split("|"))

    def build(a: Stream, b: Stream) -> Stream:
        return a.window(WINDOWS[name], by="k", grace=0, emit="final").agg(times=Collect("at"))

    given = _given(build, times, "")
    shown = [f"{o['window_start']}-{o['window_end']}:{','.join(map(str, o['times']))}" for o in given]
    assert sorted(shown) == sorted(expected.split())


# out_of_order, grace | times | windows of 10 and their counts | late
LATE_EDGES = """
0 0 | 0 10 9        | 0:1 10:1 | 9
0 0 | 0 9 8         | 0:3      |
0 1 | 0 10 9        | 0:2 10:1 |
0 1 | 0 11 9        | 0:1 10:1 | 9
5 0 | 0 14 9        | 0:2 10:1 |
5 0 | 0 15 9        | 0:1 10:1 | 9
5 2 | 0 16 9        | 0:2 10:1 |
5 2 | 0 17 9        | 0:1 10:1 | 9
0 0 | -5 0 -1       | -10:1 0:1| -1
0 0 | 5 5 5         | 0:3      |
0 3 | 0 12 9 13 9   | 0:2 10:2 | 9
"""


@pytest.mark.parametrize("line", _lines(LATE_EDGES))
def test_a_row_is_late_from_the_end_of_its_window_and_the_grace_on(line: str) -> None:
    """At `W_before >= window_end + grace`, and not a millisecond before."""
    limits, times, counts, late = (part.strip() for part in line.split("|"))
    lag, grace = map(int, limits.split())
    app = App("edges")
    rows = app.stream(source(app, "a", out_of_order=lag))
    windows = rows.window(tumbling("10ms"), by="k", grace=grace, emit="final", late_to="late")
    windows.agg(n=Count()).to("out")
    driver = Driver(app)
    driver.send("a", _rows(times, "a"))
    driver.end()
    assert sorted(f"{one['window_start']}:{one['n']}" for one in driver.rows("out")) == sorted(counts.split())
    assert [str(one["at"]) for one in driver.rows("late")] == late.split()


# -- joins: times of a, of b, and `a/b` for each result, `-` for none

INNER, LEFT, RIGHT, OUTER = ("inner", "left", "right", "outer")
JOIN_EDGES = """
interval 0 5 inner    | 10          | 9 10 15 16    | 10/10 10/15
interval -5 0 inner   | 10          | 4 5 10 11     | 10/5 10/10
interval 2 2 inner    | 10          | 11 12 13      | 10/12
interval -9 -3 inner  | 10          | 0 1 7 8       | 10/1 10/7
interval 0 5 left     | 10 30       | 15            | 10/15 30/-
interval 0 5 right    | 10          | 15 16         | 10/15 -/16
interval 0 5 outer    | 10 30       | 15 16         | 10/15 30/- -/16
interval 0 5 outer    | 10:- 10     | 10:- 10       | 10/10 10/- -/10
interval 0 5 inner    | 10:-        | 10:-          |
interval 0 5 inner    | 10 10       | 10 10         | 10/10 10/10 10/10 10/10
interval -5 5 inner   | 0 -10       | -5            | 0/-5 -10/-5
interval 0 5 outer    |             |               |
interval 0 5 outer    | 10          |               | 10/-
interval 0 5 outer    |             | 10            | -/10
interval 0 5 left     | 10:x        | 10:y          | 10/-
asof backward         | 10          | 9 10 11       | 10/10
asof backward         | 10          | 11            | 10/-
asof backward         | 10          | -90           | 10/-90
asof backward         | 10:-        | 10:-          | 10/-
asof backward 5       | 10 11       | 5             | 10/5 11/-
asof forward 5        | 10 11 12    | 16            | 10/- 11/16 12/16
asof forward 5        | 10          | 9 10          | 10/10
asof nearest 5        | 10          | 8 12          | 10/12
asof nearest 5        | 10          | 8 13          | 10/8
asof nearest 5        | 10          | 10 10         | 10/10
asof backward         | 10          |               | 10/-
asof backward         |             | 10            |
window 10 inner       | 9 10        | 0 10          | 9/0 10/10
window 10 outer       | 9           | 10            | 9/- -/10
window 10 outer       | -1          | -10 0         | -1/-10 -/0
window 10 outer       | 5:-         | 5:-           | 5/- -/5
window 10 outer       |             |               |
window s5 outer       | 0 20        | 4 25          | 0/4 20/- -/25
window s5 inner       | 0 8         | 4             | 0/4 8/4
followed 5            | 10          | 10 11 15      | 10/11
followed 5            | 10          | 10            |
followed 5            | 10          | 15            | 10/15
followed 5            | 10          | 16            |
followed 5            | 10 12       | 15            | 10/15 12/15
followed 5            | -5          | 0             | -5/0
followed 5            | 10:-        | 11:-          |
not followed 5        | 10          | 10            | 10/-
not followed 5        | 10          | 11            |
not followed 5        | 10          | 15            |
not followed 5        | 10          | 16            | 10/-
not followed 5        | 10          |               | 10/-
not followed 5        |             | 10            |
"""


def _joined(name: str) -> Build:
    kind, *numbers = name.removeprefix("not ").split()
    if kind == "interval":
        lower, upper, how = int(numbers[0]), int(numbers[1]), numbers[2]
        return lambda a, b: a.interval_join(b, on="k", lower=lower, upper=upper, how=how)  # type: ignore[arg-type]
    if kind == "asof":
        tolerance = int(numbers[1]) if len(numbers) > 1 else None
        return lambda a, b: a.asof_join(b, on="k", direction=numbers[0], tolerance=tolerance)  # type: ignore[arg-type]
    if kind == "window":
        window = session(int(numbers[0][1:])) if numbers[0].startswith("s") else tumbling(int(numbers[0]))
        return lambda a, b: a.window_join(b, window, on="k", how=numbers[1])  # type: ignore[arg-type]
    within = int(numbers[0])
    if name.startswith("not"):
        return lambda a, b: a.not_followed_by(b, by="k", within=within)
    return lambda a, b: a.followed_by(b, by="k", within=within)


@pytest.mark.parametrize("line", _lines(JOIN_EDGES))
def test_these_rows_meet(line: str) -> None:
    name, a, b, expected = (part.strip() for part in line.split("|"))
    shown = [_pair(one) for one in _given(_joined(name), a, b)]
    assert sorted(shown) == sorted(expected.split())


def _pair(one: Mapping[str, Any]) -> str:
    other = one.get("at_right", one.get("at_next"))
    return "/".join("-" if time is None else str(time) for time in (one["at"], other))


# -- the rest of one stream

OTHER_EDGES = """
deduplicate 5 | 0 4 5 9 10 | 0 5 10
deduplicate 5 | 4 0        | 0
deduplicate 5 | 5 0        | 0 5
deduplicate 5 | 3 3        | 3
deduplicate 5 | -5 -1 0    | -5 0
deduplicate 5 | 0:a 1:b    | 0 1
deduplicate 5 | 0:- 7      | 7
deduplicate 5 |            |
count 2       | 1 2 3      | 2 1
count 2       | 3:a 1:b 2:a| 2 1
count 1       | 1 1        | 1 1
count 2       |            |
"""


@pytest.mark.parametrize("line", _lines(OTHER_EDGES))
def test_of_one_stream_these_are_left(line: str) -> None:
    """Of `deduplicate` the times, of windows of so many rows how many each has."""
    name, times, expected = (part.strip() for part in line.split("|"))
    number = int(name.split()[1])

    def build(a: Stream, b: Stream) -> Stream:
        if name.startswith("count"):
            return a.window(count(number, partial=True), by="k").agg(at=Count())
        return a.deduplicate(by="k", within=number, keep="earliest").select("at")

    assert sorted(str(one["at"]) for one in _given(build, times, "")) == sorted(expected.split())


def test_the_tables_use_what_they_declare() -> None:
    """No window is declared in vain, and every row of the schema is there."""
    assert {line.split("|")[0].strip() for line in _lines(WINDOW_EDGES)} == set(WINDOWS)
    assert set(row(0)) == set(SCHEMA)
