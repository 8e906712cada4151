"""Deduplicate, followed by, not followed by: their edges as tables, and what a following step gets."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest

from millstream import App, Driver, count, run_batch, tumbling
from millstream.topics.errors import ConfigurationError
from millstream.topics.schema import Schema
from millstream.workers.errors import PlanError
from millstream.workers.operators.deduplicate import Deduplicate
from millstream.workers.operators.followed_by import FollowedBy
from millstream.workers.operators.not_followed_by import NotFollowedBy
from tests.oracles.patterns import Row
from tests.workers.pattern_run import Pattern, Run

BEFORE_ALL = -(10**15)
SCHEMA = {"id": "int", "user": "string", "ts": "timestamp_ms"}


def _rows(text: str, side: int) -> list[Row]:
    """`5 9@7 -3`: times of one key, values by position, `@` the watermark of the partition just before."""
    rows = []
    for value, word in enumerate(text.split()):
        time, _, before = word.partition("@")
        rows.append(Row(side, "k", int(time), value + 100 * side, int(before or BEFORE_ALL)))
    return rows


DEDUPLICATE = """
keep      grace | times                      | kept         late
first     0     | 0 9 10 19 20               | 0 10 20      -       # exactly `within` (10) apart is no duplicate
first     0     | 0 5 12                     | 0 12         -       # 5 is a duplicate and extends nothing
first     0     | 20 11 10 0                 | 20 10 0      -       # out of order: kept before one another
first     0     | 0 20 10 15 5               | 0 20 10      -       # between two kept rows
first     0     | 7 7 7                      | 7            -       # one time: the first to come
first     0     | -15 -10 -5                 | -15 -5       -       # below zero
first     0     | 30 30@30 29@30             | 30           29      # late by 1 ms
first     5     | 30 25@30 24@30             | 30           24      # within grace it is judged, a duplicate here
first     5     | 40 25@30 24@30             | 40 25        24
earliest  0     | 20 11 10 0                 | 0 10 20      -
earliest  0     | 9 0 12 10                  | 0 10         -
earliest  0     | 7 7 7                      | 7            -
earliest  0     | -5 -10 -15                 | -15 -5       -
earliest  0     | 30 30@30 29@30             | 30           29
earliest  5     | 30 25@30 24@30             | 25           24
"""


def _table(text: str) -> list[str]:
    return [line.partition("#")[0] for line in text.strip().splitlines()[1:]]


def _numbers(text: str) -> list[int]:
    return [] if text == "-" else [int(word) for word in text.split()]


@pytest.mark.parametrize("line", _table(DEDUPLICATE))
def test_which_rows_are_duplicates(line: str) -> None:
    options, times, results = line.split("|")
    keep, grace = options.split()
    kept, late = (part.strip() for part in results.strip().rsplit("  ", 1))
    assert keep in ("first", "earliest")
    step = Deduplicate(("k",), 10, "first" if keep == "first" else "earliest", int(grace))
    rows = _rows(times, 0)
    for together in (True, False):
        run = Run(step)
        for part in [rows] if together else [[row] for row in rows]:
            run.rows(part)
        run.advance(10**6)
        assert [rows[value].time for value in run.given.results if isinstance(value, int)] == _numbers(kept)
        assert [rows[value].time for value in run.given.late] == _numbers(late)


FOLLOWED = """
a            | b                 | pairs (a.t-b.t)   alone      # within is 10, grace 0
0            | 10                | 0-10              -          # exactly within
0            | 11                | -                 0          # 1 ms too far
0            | 0 1               | 0-1               -          # strictly after
0            | 9 3 7             | 0-3               -          # the next one, whatever came first
0 5 8        | 9                 | 0-9,5-9,8-9       -          # one b follows several a
0 5          | 4 6               | 0-4,5-6           -
0 3          | 12                | 3-12              0
-15          | -10 -8            | -15--10           -          # below zero
0 0          | 4                 | 0-4,0-4           -          # two a of one time
5            | 4                 | -                 5          # before is not after
"""


@pytest.mark.parametrize("line", _table(FOLLOWED))
def test_what_follows(line: str) -> None:
    a, b, results = line.split("|")
    pairs, alone = results.split()
    firsts, seconds = _rows(a, 0), _rows(b, 1)
    followed, not_followed = Run(FollowedBy(("k",), 10)), Run(NotFollowedBy(("k",), 10))
    for run in (followed, not_followed):
        run.rows(seconds)
        run.rows(firsts)
        run.advance(10**6)
    found = sorted(followed.given.results)
    told = ",".join(f"{firsts[first].time}-{seconds[second - 100].time}" for first, second in found)
    assert (told or "-") == pairs
    assert [firsts[value].time for value in not_followed.given.results] == _numbers(alone)


def test_of_two_next_rows_of_one_time_the_first_to_come_counts() -> None:
    run = Run(FollowedBy(("k",), 10))
    run.rows(_rows("0", 0))
    run.rows(_rows("5 5", 1))
    run.advance(100)
    assert run.given.results == [(0, 100)]


@pytest.mark.parametrize(
    ("step", "certain_at"),
    [
        (Deduplicate(("k",), 10, "first", 3), None),  # at once
        (Deduplicate(("k",), 10, "earliest", 3), 0 + 3),
        (FollowedBy(("k",), 10, 3), 5 + 3),
        (NotFollowedBy(("k",), 4, 3), 0 + 4 + 3),
    ],
)
def test_when_a_result_is_given(step: Pattern, certain_at: int | None) -> None:
    """An a at 0 and a b at 5: the result is there when the watermark is past the moment by 1 ms, and not before."""
    run = Run(step)
    run.rows(_rows("0", 0))
    if not isinstance(step, Deduplicate):
        run.rows(_rows("5", 1))
    if certain_at is None:
        assert run.given.results == [0]
        return
    run.advance(certain_at)
    assert run.given.results == []
    run.advance(certain_at + 1)
    assert len(run.given.results) == 1


def test_kept_times_are_freed() -> None:
    """And with them the changelog's and the database's entries: what is left does not grow with time."""
    run = Run(Deduplicate(("k",), 10))
    for start in range(0, 10_000, 50):
        run.rows([Row(0, f"k{start + n}", start + n, start + n, BEFORE_ALL) for n in range(50)])
        run.advance(start)
        run.checkpoint()
    run.advance(20_000)
    run.checkpoint()
    left = [key for chunk in run.database.store("kept").scan() for key, _ in chunk.pairs()]
    assert left == [b"\x00closed"]
    assert [key for key, value in run.entries("kept").items() if value is not None] == [b"\x00closed"]


@pytest.mark.parametrize(
    "step", [FollowedBy(("k",), 10), NotFollowedBy(("k",), 10), Deduplicate(("k",), 10, "earliest")]
)
def test_rows_are_freed(step: Pattern) -> None:
    """Nothing but a few numbers is left in the changelog when the watermark has passed everything."""
    run = Run(step)
    for start in range(0, 2_000, 50):
        run.rows(_rows(" ".join(str(start + n) for n in range(50)), 0))
        if not isinstance(step, Deduplicate):
            run.rows(_rows(" ".join(str(start + n) for n in range(0, 50, 7)), 1))
        run.advance(start)
        run.commit()
    run.advance(20_000)
    run.commit()
    left = [key for store in run.states for key, value in run.entries(store).items() if value is not None]
    assert set(left) <= {b"W", b"\x00closed"}


def test_dictionaries_of_keys_are_renewed() -> None:
    """A quarter of a million keys that each come twice: no key is mistaken for another after codes were given anew."""
    first, earliest = Run(Deduplicate(("k",), 10)), Run(Deduplicate(("k",), 10, "earliest"))
    followed = Run(FollowedBy(("k",), 10))
    total, size = 240_000, 20_000
    for start in range(0, total, size):
        rows = [Row(0, f"k{n // 2}", n // 200, n, BEFORE_ALL) for n in range(start, start + size)]
        first.rows(rows)
        earliest.rows(rows)
        followed.rows(rows)
        followed.rows([Row(1, row.key, row.time + 1, row.value, BEFORE_ALL) for row in rows[::2]])
        for run in (first, earliest, followed):
            run.advance(start // 200 - 5)
    for run in (first, earliest, followed):
        run.advance(10**9)
    assert first.given.results == list(range(0, total, 2))
    assert earliest.given.results == list(range(0, total, 2))
    assert sorted(followed.given.results) == [(n, n - n % 2) for n in range(total)]


def test_many_kept_rows_of_one_key_in_one_batch() -> None:
    """More than are worked on as columns."""
    run = Run(Deduplicate(("k",), 10))
    run.rows([Row(0, "k", time, time, BEFORE_ALL) for time in (*range(0, 3_000, 2), *range(1, 3_000, 2))])
    assert run.given.results == list(range(0, 3_000, 10))


def test_results_are_never_late_for_a_window() -> None:
    """Deduplicated, followed, and what was not followed, each counted in windows without grace of their own."""
    app = App("shop")
    a, b = (app.stream(app.topic(name, SCHEMA, key="user", event_time="ts", out_of_order="40ms")) for name in "ab")
    once = a.deduplicate(by="user", within="15ms", keep="earliest", grace="10ms")
    for name, stream in (
        ("first", a.deduplicate(by="user", within="15ms", grace="10ms")),
        ("once", once),
        ("followed", once.followed_by(b, by="user", within="50ms", grace="10ms")),
        ("alone", once.not_followed_by(b, by="user", within="5ms", grace="10ms")),
    ):
        stream.window(tumbling("20ms"), by="user", emit="final", grace="0s").agg(n=count()).to(name)
    driver = Driver(app)
    for n in range(300):
        ts = n * 7 - (n * 31 % 40)
        driver.send("ab"[n % 3 == 0], [{"id": n, "user": f"u{n % 4}", "ts": ts}])
        if n % 10 == 0:
            driver.commit()
    driver.end()
    assert driver.instrument.total("late_rows") == 0
    assert all(driver.rows(name) for name in ("first", "once", "followed", "alone"))


def _app(partitions: int) -> App:
    app = App("shop")
    a, b = (
        app.stream(app.topic(name, SCHEMA, key="user", event_time="ts", out_of_order="60ms", partitions=partitions))
        for name in "ab"
    )
    once = a.deduplicate(by="user", within="25ms", keep="earliest")
    once.to("once")
    once.followed_by(b, by="user", within="30ms").to("followed")
    once.not_followed_by(b, by="user", within="30ms").to("alone")
    return app


@pytest.mark.parametrize("seed", range(6))
def test_a_bounded_run_gives_what_a_streaming_run_gives(seed: int) -> None:
    """Over several partitions, in any interleaving, with commits, checkpoints and crashes anywhere."""
    chance = random.Random(seed)
    rows = {
        name: [{"id": n, "user": f"u{chance.randrange(7)}", "ts": 5 * n - chance.randrange(60)} for n in range(150)]
        for name in "ab"
    }
    driver, sent = Driver(_app(3), fetch_records_max=7), {"a": 0, "b": 0}
    while any(at < 150 for at in sent.values()):
        name = chance.choice([name for name, at in sent.items() if at < 150])
        size = chance.randrange(1, 12)
        driver.send(name, rows[name][sent[name] : sent[name] + size])
        sent[name] += size
        chance.choice([driver.commit, driver.checkpoint, driver.process, driver.crash])()
    driver.end()
    assert driver.instrument.total("late_rows") == 0
    bounded = run_batch(
        _app(1), {name: pl.DataFrame(given, schema=Schema.of(SCHEMA).polars()) for name, given in rows.items()}
    )
    for topic in ("once", "followed", "alone"):
        assert _sorted(driver.rows(topic)) == _sorted(bounded[topic].to_dicts()) != []


def _sorted(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in rows)


def test_a_stream_that_is_followed_by_itself() -> None:
    """The next visit of the same user."""
    app = App("shop")
    visits = app.stream(app.topic("visits", SCHEMA, key="user", event_time="ts"))
    visits.followed_by(visits, by="user", within="1h").select("id", "id_next").to("next")
    driver = Driver(app)
    driver.send("visits", [{"id": n, "user": "ada", "ts": n * 1000} for n in range(4)])
    driver.end()
    assert driver.rows("next") == [{"id": n, "id_next": n + 1} for n in range(3)]


def test_topics_of_different_partition_counts() -> None:
    """The plan puts the smaller one behind a repartition topic."""
    app = App("shop")
    a = app.stream(app.topic("a", SCHEMA, key="user", event_time="ts", partitions=3))
    b = app.stream(app.topic("b", SCHEMA, key="user", event_time="ts", partitions=1))
    a.followed_by(b, by="user", within="1s").select("id", "id_next").to(app.topic("pairs", partitions=1))
    driver = Driver(app)
    driver.send("a", [{"id": n, "user": f"u{n}", "ts": 0} for n in range(9)])
    driver.send("b", [{"id": n + 10, "user": f"u{n}", "ts": 1} for n in range(9)])
    driver.end()
    assert sorted((row["id"], row["id_next"]) for row in driver.rows("pairs")) == [(n, n + 10) for n in range(9)]


def test_rows_without_a_key() -> None:
    """A dead letter where rows of one key are compared; among two streams they follow nothing, as NULL equals nothing in SQL."""
    app = App("shop")
    a, b = (app.stream(app.topic(name, SCHEMA, event_time="ts", dead_letters="dead")) for name in "ab")
    a.deduplicate(by="user", within="1s").to("once")
    a.followed_by(b, by="user", within="1s").to("pairs")
    a.not_followed_by(b, by="user", within="1s").select("id").to("alone")
    driver = Driver(app)
    driver.send("a", [{"id": 1, "user": None, "ts": 0}])
    driver.send("b", [{"id": 2, "user": None, "ts": 1}])
    driver.end()
    assert (driver.rows("once"), driver.rows("pairs"), driver.rows("alone")) == ([], [], [{"id": 1}])
    assert driver.instrument.total("null_key_rows") == 4


def test_late_rows_go_where_they_are_sent() -> None:
    app = App("shop")
    a, b = (app.stream(app.topic(name, SCHEMA, key="user", event_time="ts")) for name in "ab")
    a.deduplicate(by="user", within="1s", late_to="late-a").to("once")
    a.followed_by(b, by="user", within="1s", late_to="late-pairs").to("pairs")
    driver = Driver(app)
    driver.send("a", [{"id": 1, "user": "ada", "ts": 5_000}, {"id": 2, "user": "ada", "ts": 4_999}])
    driver.end()
    (late,) = driver.rows("late-a")
    assert (late["id"], late["late_reason"]) == (
        2,
        "its time 4999 is more than the grace of 0s behind: the watermark of its partition was 5000",
    )
    (late,) = driver.rows("late-pairs")
    assert (late["id"], late["id_next"], late["ts_next"]) == (2, None, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": "usr", "within": "1s"}, "no column 'usr'"),
        ({"by": "user", "within": "0s"}, "within must be longer than 0"),
        ({"by": "user", "within": "1s", "grace": "-1s"}, "grace must not be negative"),
        ({"by": "user", "within": "soon"}, "is not a duration"),
        ({"by": (), "within": "1s"}, "by= needs a column"),
    ],
)
def test_what_is_refused(options: dict[str, str], said: str) -> None:
    for name in ("deduplicate", "followed_by", "not_followed_by"):
        app = App("shop")
        a, b = (app.stream(app.topic(topic, SCHEMA, event_time="ts")) for topic in "ab")
        with pytest.raises((PlanError, ConfigurationError), match=said):
            getattr(a, name)(*([] if name == "deduplicate" else [b]), **options)


def test_keys_of_two_types_are_refused() -> None:
    app = App("shop")
    a = app.stream(app.topic("a", SCHEMA, event_time="ts"))
    b = app.stream(app.topic("b", {**SCHEMA, "user": "int"}, event_time="ts"))
    with pytest.raises(PlanError, match="'user' is String in the first stream and Int64 in the second"):
        a.followed_by(b, by="user", within="1s")
