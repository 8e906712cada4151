"""Interval joins: of two topics of one key, and of one that has to be repartitioned first."""

from __future__ import annotations

from collections.abc import Callable

from millstream.workers.app import App
from millstream.workers.operators.interval_join import How
from tests.crashes.case import Case, Outputs, Row, differences, keyed, rows_of
from tests.crashes.cases_rows import PARTITIONS, SCHEMA, by_partition, clicks
from tests.oracles.interval_join import Row as Side
from tests.oracles.interval_join import all_on_time

VIEWS = clicks(20)
BUYS = [{**row, "ts": row["ts"] + 150, "user": f"user-{row['id'] % 6}"} for row in clicks(14, step_ms=140)]
LOWER, UPPER = -200, 400


def _build(how: How, on: str) -> Callable[[App], None]:
    def build(app: App) -> None:
        views, buys = (
            app.stream(app.topic(name, SCHEMA, key="user", event_time="ts", partitions=PARTITIONS, out_of_order="1s"))
            for name in ("views", "buys")
        )
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

CASES = [
    Case("join, inner", _build("inner", "user"), INPUT, _judge("inner", "user")),
    Case("join, outer", _build("outer", "user"), INPUT, _judge("outer", "user")),
    Case("join, left, repartitioned", _build("left", "page"), INPUT, _judge("left", "page")),
]
