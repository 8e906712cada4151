"""Joins by time: of two topics of one key, and of topics that have to be repartitioned first."""

from __future__ import annotations

from collections.abc import Callable

from millstream import hopping, session
from millstream.workers.app import App
from millstream.workers.operators.interval_join import How
from millstream.workers.stream import Stream
from millstream.workers.window import Window
from tests.crashes.case import Case, Outputs, Row, differences, keyed, rows_of
from tests.crashes.cases_rows import PARTITIONS, SCHEMA, by_partition, clicks
from tests.oracles.asof_join import Row as AsofRow
from tests.oracles.asof_join import Rules
from tests.oracles.asof_join import all_on_time as asof_on_time
from tests.oracles.interval_join import Row as Side
from tests.oracles.interval_join import all_on_time
from tests.oracles.window_join import Grid
from tests.oracles.window_join import Row as WindowRow
from tests.oracles.window_join import Rules as WindowRules
from tests.oracles.window_join import all_on_time as windows_on_time

VIEWS = clicks(20)
BUYS = [{**row, "ts": row["ts"] + 150, "user": f"user-{row['id'] % 6}"} for row in clicks(14, step_ms=140)]
LOWER, UPPER = -200, 400


def _both(app: App) -> list[Stream]:
    return [
        app.stream(app.topic(name, SCHEMA, key="user", event_time="ts", partitions=PARTITIONS, out_of_order="1s"))
        for name in ("views", "buys")
    ]


def _build(how: How, on: str) -> Callable[[App], None]:
    def build(app: App) -> None:
        views, buys = _both(app)
        joined = views.interval_join(buys, on=on, lower=f"{LOWER}ms", upper=f"{UPPER}ms", how=how)
        joined.select("id", "id_right").to(app.topic("pairs", partitions=PARTITIONS))

    return build


def _judge(how: How, on: str) -> Callable[[Outputs], list[str]]:
    def judge(outputs: Outputs) -> list[str]:
        rows = [
            Side(side, (row[on],), row["ts"], row["id"] + 1000 * side, 0)
            for side, given in enumerate((VIEWS, BUYS))
            for row in given
        ]
        truth = all_on_time(rows, LOWER, UPPER, how)
        expected: list[Row] = [{"id": left, "id_right": right - 1000} for left, right in truth.pairs]
        expected += [{"id": left, "id_right": None} for left in truth.padded[0]]
        expected += [{"id": None, "id_right": right - 1000} for right in truth.padded[1]]
        return differences("pairs", expected, rows_of(outputs, "pairs"))

    return judge


INPUT = {
    name: [keyed(part, "user") for part in by_partition(rows)] for name, rows in (("views", VIEWS), ("buys", BUYS))
}

# -- as of


RULES = {
    "backward": Rules("backward", None, "left", 0),
    "forward": Rules("forward", 400, "inner", 0),
    "nearest": Rules("nearest", 300, "left", 0),
}


def _build_asof(rules: Rules, on: str) -> Callable[[App], None]:
    def build(app: App) -> None:
        views, buys = _both(app)
        joined = buys.asof_join(
            views,
            on=on,
            direction=rules.direction,  # type: ignore[arg-type]
            tolerance=rules.tolerance,
            how=rules.how,  # type: ignore[arg-type]
        )
        joined.select("id", "id_right").to(app.topic("pairs", partitions=PARTITIONS))

    return build


def _judge_asof(rules: Rules, on: str) -> Callable[[Outputs], list[str]]:
    def judge(outputs: Outputs) -> list[str]:
        rows = [
            AsofRow(side, row[on], row["ts"], row["id"], 0) for side, given in enumerate((BUYS, VIEWS)) for row in given
        ]
        expected: list[Row] = [{"id": left, "id_right": right} for left, right in asof_on_time(rows, rules).rows]
        return differences("pairs", expected, rows_of(outputs, "pairs"))

    return judge


# -- in windows


WINDOWS: dict[str, tuple[Window, Grid | int]] = {
    "hopping": (hopping(600, 400), (600, 400, 0)),
    "session": (session(450), 450),
}


def _build_windows(window: Window, how: How, on: str) -> Callable[[App], None]:
    def build(app: App) -> None:
        views, buys = _both(app)
        joined = views.window_join(buys, window, on=on, how=how)
        joined.select("window_start", "window_end", "id", "id_right").to(app.topic("pairs", partitions=PARTITIONS))

    return build


def _judge_windows(sizes: Grid | int, how: How, on: str) -> Callable[[Outputs], list[str]]:
    def judge(outputs: Outputs) -> list[str]:
        rows = [
            WindowRow(side, row[on], row["ts"], row["id"], 0)
            for side, given in enumerate((VIEWS, BUYS))
            for row in given
        ]
        names = ("window_start", "window_end", "id", "id_right")
        expected = [
            dict(zip(names, result, strict=True)) for result in windows_on_time(rows, WindowRules(sizes, how, 0))
        ]
        return differences("pairs", expected, rows_of(outputs, "pairs"))

    return judge


CASES = [
    Case("join, inner", _build("inner", "user"), INPUT, _judge("inner", "user")),
    Case("join, outer", _build("outer", "user"), INPUT, _judge("outer", "user")),
    Case("join, left, repartitioned", _build("left", "page"), INPUT, _judge("left", "page")),
    *[
        Case(f"join, as of, {name}", _build_asof(rules, "user"), INPUT, _judge_asof(rules, "user"))
        for name, rules in RULES.items()
    ],
    *[
        Case(f"join, {name} windows", _build_windows(window, "outer", on), INPUT, _judge_windows(sizes, "outer", on))
        for on, (name, (window, sizes)) in zip(("user", "page"), WINDOWS.items(), strict=True)
    ],
]
