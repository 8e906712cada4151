"""The watermark passes on lowered by a step's delay, after its rows: chained steps lose nothing (semantics.md, section 1)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from millstream.topics.schema import Schema
from millstream.workers.app import App
from millstream.workers.driver import Driver
from millstream.workers.graph import Work
from millstream.workers.operator import Operator
from millstream.workers.stream import Stream
from millstream.workers.task import Task
from millstream.workers.windows.hopping import hopping
from millstream.workers.windows.session import session
from millstream.workers.windows.tumbling import tumbling
from tests.semantics.stage import SCHEMA, counted, row, source

Chain = Callable[[Stream, Stream], Stream]
"""What stands before the window: gives rows with `k`."""


def _windows(window: Any) -> Chain:
    return lambda a, b: counted(a, window=window, grace="30ms")


CHAINS: dict[str, Chain] = {
    "tumbling": _windows(tumbling("7ms")),
    "hopping": _windows(hopping("12ms", "5ms")),
    "session": _windows(session("9ms")),
    "interval join": lambda a, b: a.interval_join(b, on="k", lower="-20ms", upper="20ms", grace="30ms"),
    "interval join, left": lambda a, b: a.interval_join(b, on="k", lower=0, upper="20ms", how="left", grace="30ms"),
    "interval join, right": lambda a, b: a.interval_join(b, on="k", lower="-20ms", upper=0, how="right", grace="30ms"),
    "interval join, outer": lambda a, b: a.interval_join(
        b, on="k", lower="-40ms", upper="-20ms", how="outer", grace="30ms"
    ),
    "as-of join": lambda a, b: a.asof_join(b, on="k", grace="30ms"),
    "as-of join, forward": lambda a, b: a.asof_join(b, on="k", direction="forward", tolerance="30ms", grace="30ms"),
    "as-of join, nearest": lambda a, b: a.asof_join(b, on="k", direction="nearest", tolerance="30ms", grace="30ms"),
    "window join": lambda a, b: a.window_join(b, tumbling("7ms"), on="k", how="outer", grace="30ms"),
    "deduplicate, earliest": lambda a, b: a.deduplicate(by="k", within="3ms", keep="earliest", grace="30ms"),
    "followed by": lambda a, b: a.followed_by(b, by="k", within="30ms", grace="30ms"),
    "not followed by": lambda a, b: a.not_followed_by(b, by="k", within="9ms", grace="30ms"),
}


def _app(chain: Chain) -> App:
    """Results of the chain, counted by windows of one millisecond, in which no row may be late."""
    app = App("rules", watermark_interval_ms=1)
    a, b = (app.stream(source(app, name, out_of_order="3ms")) for name in ("a", "b"))
    given = chain(a, b)
    given.select("k").to("given")
    windows = given.select("k").window(tumbling("1ms"), by="k", grace="0ms", emit="final", late_to="too-late")
    windows.agg(n=_count()).to("counted")
    return app


def _count() -> Any:
    from millstream.workers.reducers.count import Count

    return Count()


def _run(app: App) -> Driver:
    driver = Driver(app)
    chance = random.Random(1)
    for number in range(50):
        at = number * 3 - chance.randrange(32)
        driver.send(chance.choice("ab"), [row(at, k=chance.choice("klm"), x=number)])
        if number % 9 == 0:
            driver.commit()
    driver.end()
    return driver


@pytest.mark.parametrize("name", CHAINS)
def test_windows_behind_a_step_lose_none_of_its_rows(name: str) -> None:
    driver = _run(_app(CHAINS[name]))
    given = len(driver.rows("given"))
    assert given > 5
    assert driver.rows("too-late") == []
    assert sum(one["n"] for one in driver.rows("counted")) == given


@pytest.mark.parametrize("name", CHAINS)
def test_negative_control_without_the_delay_rows_are_lost(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, with the watermark passed on as it is."""
    make = Task.__init__

    def undelayed(self: Task, *arguments: Any) -> None:
        make(self, *arguments)
        for operator in self.operators.values():
            operator.delay_ms = 0

    monkeypatch.setattr(Task, "__init__", undelayed)
    driver = _run(_app(CHAINS[name]))
    assert len(driver.rows("too-late")) > 0


# step | delay in ms
DELAYS = """
a.filter(pl.col("x") > 0)                                               | 0
a.merge(b)                                                              | 0
a.window(tumbling("10ms"), by="k", grace="7ms").agg(n=_count())         | 7
a.window(session("10ms"), by="k", grace="7ms").agg(n=_count())          | 7
a.interval_join(b, on="k", lower=-5, upper=9, grace=7)                  | 7
a.interval_join(b, on="k", lower=-5, upper=9, grace=7, how="left")      | 16
a.interval_join(b, on="k", lower=-5, upper=9, grace=7, how="right")     | 16
a.interval_join(b, on="k", lower=-50, upper=9, grace=7, how="outer")    | 57
a.interval_join(b, on="k", lower=-50, upper=-20, grace=7, how="left")   | 57
a.interval_join(b, on="k", lower=20, upper=50, grace=7, how="right")    | 57
a.interval_join(b, on="k", lower=0, upper=0, grace=0, how="outer")      | 0
a.asof_join(b, on="k", grace=7)                                         | 7
a.asof_join(b, on="k", grace=7, direction="forward", tolerance=9)       | 16
a.asof_join(b, on="k", grace=7, direction="nearest", tolerance=9)       | 16
"""


@pytest.mark.parametrize("line", DELAYS.strip().splitlines())
def test_by_how_much_the_watermark_is_lowered(line: str) -> None:
    text, expected = line.split("|")
    app = App("rules")
    a, b = (app.stream(source(app, name)) for name in ("a", "b"))
    names = {"a": a, "b": b, "pl": pl, "tumbling": tumbling, "session": session, "_count": _count}
    stream = eval(text.strip(), names)
    assert _operator(app, stream).delay_ms == int(expected)


def _operator(app: App, stream: Stream) -> Operator:
    node = app.graph.nodes[stream.port.node]
    assert isinstance(node, Work)
    operator = node.step.build([Schema.of(SCHEMA)] * len(node.inputs))
    assert isinstance(operator, Operator)
    return operator
