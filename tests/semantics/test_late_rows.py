"""Which rows are late depends on their own partition alone, row by row (semantics.md, section 1): any disorder, cuts, crashes.

Windows, sessions and what is written to the topic of late rows are compared with the record-at-a-time oracles. On the way
partitions and topics of one task are read in any order, some far behind others; that changes nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.topics.batch import MAX_TIME, MIN_TIME
from millstream.topics.timestamps import watermarks
from millstream.workers.app import App
from millstream.workers.driver import Driver
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum
from millstream.workers.window import Window
from millstream.workers.windows.cumulative import cumulative
from millstream.workers.windows.hopping import hopping
from millstream.workers.windows.session import session
from millstream.workers.windows.tumbling import tumbling
from tests.oracles.windows import CumulativeOracle, SessionOracle, WindowOracle
from tests.semantics.stage import partition_of, row, source

Oracle = Callable[[int], Any]
"""Of a grace."""

KINDS: dict[str, tuple[Window, Oracle]] = {
    "tumbling": (tumbling("10ms", offset="-3ms"), lambda grace: WindowOracle(10, 10, -3, grace)),
    "hopping": (hopping("12ms", "5ms"), lambda grace: WindowOracle(12, 5, 0, grace)),
    "hopping with gaps": (hopping("6ms", "9ms"), lambda grace: WindowOracle(6, 9, 0, grace)),
    "cumulative": (cumulative("20ms", "5ms"), lambda grace: CumulativeOracle(20, 5, 0, grace)),
}
PARTITIONS = 2
Arrivals = Sequence[tuple[str, int, str]]
"""Topic, time, key, in the order of each partition."""

ARRIVALS = st.lists(
    st.tuples(st.sampled_from(["one", "two"]), st.integers(-40, 60), st.sampled_from("abc")), min_size=1, max_size=40
)


def _app(window: Window, grace: int, lag: int, topics: Sequence[str]) -> App:
    app = App("rules", watermark_interval_ms=1)
    one, *others = (app.stream(source(app, name, partitions=PARTITIONS, out_of_order=lag)) for name in topics)
    rows = one.merge(*others) if others else one
    windows = rows.window(window, by="k", grace=grace, emit="final", late_to="late")
    windows.agg(n=Count(), total=Sum("x")).to("out")
    return app


def _run(app: App, arrivals: Arrivals, chance: random.Random) -> Driver:
    driver = Driver(app, fetch_records_max=chance.choice([1, 3, 1_000]))
    queues: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for number, (topic, at, key) in enumerate(arrivals):
        queues.setdefault((topic, partition_of(key, PARTITIONS)), []).append(row(at, key, x=number))
    while queues:
        topic, partition = chance.choice(sorted(queues))
        rows = queues[topic, partition]
        size = chance.randrange(1, 8)
        driver.send(topic, rows[:size])
        del rows[:size]
        if not rows:
            del queues[topic, partition]
        chance.choice([driver.commit, driver.checkpoint, driver.crash, lambda: None, lambda: None])()
    driver.end()
    return driver


def _told(oracle: Any, arrivals: Arrivals, lag: int) -> None:
    """Each row with the watermark of its partition before it."""
    own: dict[tuple[str, int], int] = {}
    for number, (topic, at, key) in enumerate(arrivals):
        partition = topic, partition_of(key, PARTITIONS)
        before = own.get(partition, MIN_TIME)
        oracle.row(key, at, before, number)
        own[partition] = max(before, at - lag)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12)
@given(
    arrivals=ARRIVALS,
    grace=st.sampled_from([0, 0, 4, 30]),
    lag=st.sampled_from([0, 5, 25]),
    chance=st.randoms(use_true_random=True),
)
def test_windows_and_late_rows_are_those_of_the_words(
    kind: str, arrivals: Arrivals, grace: int, lag: int, chance: random.Random
) -> None:
    window, make = KINDS[kind]
    driver = _run(_app(window, grace, lag, ["one", "two"]), arrivals, chance)
    oracle = make(grace)
    _told(oracle, arrivals, lag)
    expected = {
        (key, *_bounds(name, window)): (len(rows), sum(number for _, number in rows))
        for (key, name), rows in oracle.rows.items()
    }
    given = driver.rows("out")
    assert {_window(one): (one["n"], one["total"]) for one in given} == expected
    assert len(given) == len(expected), "each window once"
    assert Counter(one["x"] for one in driver.rows("late")) == Counter(oracle.late)
    assert driver.instrument.total("late_rows") >= len(oracle.late), "after a crash they are counted again"
    assert driver.instrument.total("late_rows.partition_woke") == 0


def _window(one: dict[str, Any]) -> tuple[str, int, int]:
    return one["k"], one["window_start"], one["window_end"]


def _bounds(name: Any, window: Any) -> tuple[int, int]:
    return name if isinstance(name, tuple) else (name, name + window.size_ms)


@settings(max_examples=30)
@given(
    arrivals=ARRIVALS,
    gap=st.integers(1, 12),
    grace=st.sampled_from([0, 0, 4, 30]),
    lag=st.sampled_from([0, 5, 25]),
    chance=st.randoms(use_true_random=True),
)
def test_sessions_and_late_rows_are_those_of_the_words(
    arrivals: Arrivals, gap: int, grace: int, lag: int, chance: random.Random
) -> None:
    """Of one input: what a late row of a faster one may still join depends on what a slower one has open."""
    arrivals = [("one", at, key) for _, at, key in arrivals]
    driver = _run(_app(session(gap), grace, lag, ["one"]), arrivals, chance)
    expected: Counter[Any] = Counter()
    late: list[int] = []
    for partition in range(PARTITIONS):
        oracle = SessionOracle(gap, grace)
        before = MIN_TIME
        for number, (_, at, key) in enumerate(arrivals):
            if partition_of(key, PARTITIONS) == partition:
                oracle.row(key, at, before, number)
                before = max(before, at - lag)
        oracle.advance(MAX_TIME)
        late += oracle.late
        expected.update(
            (key, start, end, len(rows), sum(n for _, n in rows)) for key, start, end, rows in oracle.closed
        )
    assert Counter((*_window(one), one["n"], one["total"]) for one in driver.rows("out")) == expected
    assert Counter(one["x"] for one in driver.rows("late")) == Counter(late)


def test_negative_control_judged_by_the_batch_rows_are_kept_that_are_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one watermark for all rows of a fetch the words are not met."""

    def by_batch(times: Any, watermark: int, lag: int) -> Any:
        before, after = watermarks(times, watermark, lag)
        return before * 0 + watermark, after

    monkeypatch.setattr("millstream.topics.decode.watermarks", by_batch)
    arrivals = [("one", at, "a") for at in (0, 50, 3)]
    driver = Driver(_app(KINDS["tumbling"][0], 0, 0, ["one"]))
    driver.send("one", [row(at, key) for _, at, key in arrivals])
    driver.end()
    oracle = WindowOracle(10, 10, -3, 0)
    _told(oracle, arrivals, 0)
    assert oracle.late == [2]
    assert driver.rows("late") == []
