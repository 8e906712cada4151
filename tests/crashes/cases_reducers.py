"""Sessions that grow together, with reducers that keep sketches, sets and rows, and one of the user's own."""

from __future__ import annotations

from typing import Any

import polars as pl

from millstream.workers.aggregate_function import AggregateFunction
from millstream.workers.app import App
from millstream.workers.reducer import Reducer, parse_reducer
from millstream.workers.windows.session import session
from tests.crashes.case import Case, Outputs, Row, differences, keyed, rows_of
from tests.crashes.cases_rows import PARTITIONS, SCHEMA, by_partition, clicks
from tests.oracles.reducers import JUDGES
from tests.oracles.windows import SessionOracle

ROWS = [row for row in clicks(30) if row["id"] % 8 not in {2, 5}]
WRITTEN = {
    "var": "var(x)",
    "std": "std(x, ddof=0)",
    "low_page": "argmin(x, y)",
    "high_page": "argmax(x, y)",
    "ids": "collect_set(x)",
    "spread": "histogram(x, [-2, 0.5, 3])",
    "largest": "top_k(x, 3)",
    "different": "approx_distinct(x)",
    "median": "quantile(x, 0.5)",
}
"""As the oracles are written; `x` is the id, and with `y` the page at an id."""


def _reducers() -> dict[str, Reducer]:
    written = {name: text.replace("x, y", "page, id").replace("(x", "(id") for name, text in WRITTEN.items()}
    ids = AggregateFunction(
        "ids",
        "id",
        pl.List(pl.Int64),
        init=list,
        add=lambda state, value: [*state, value],
        merge=lambda state, other: state + other,
        result=sorted,
    )
    return {**{name: parse_reducer(text) for name, text in written.items()}, "all": ids}


def build(app: App) -> None:
    source = app.topic("clicks", SCHEMA, key="user", event_time="ts", partitions=PARTITIONS, out_of_order="300ms")
    sessions = app.stream(source).window(session("600ms"), by="user", grace="0s", emit="final")
    sessions.agg(**_reducers()).to(app.topic("sessions", key="user", partitions=PARTITIONS))


def _expected() -> dict[tuple[str, int, int], list[tuple[int, Any]]]:
    """The rows of each session."""
    sessions = {}
    for part in by_partition(ROWS):
        oracle, before = SessionOracle(gap=600, grace=0), -(1 << 62)
        for row in part:
            oracle.row(row["user"], row["ts"], before, row)
            before = max(before, row["ts"] - 300)
        oracle.advance(1 << 62)
        sessions.update({(user, start, end): rows for user, start, end, rows in oracle.closed})
    return sessions


def judge(outputs: Outputs) -> list[str]:
    """Every session once, and each of its results as its oracle wants it."""
    expected, found = _expected(), rows_of(outputs, "sessions")
    said = differences("sessions", [*expected], [_key(row) for row in found])
    for row in found:
        rows = expected.get(_key(row), [])
        wrong = [name for name, text in WRITTEN.items() if not JUDGES[text](_read(rows, text), row[name])]
        wrong += ["all"] * (row["all"] != sorted(values["id"] for _, values in rows))
        said += [f"sessions: wrong {name} in {row}" for name in wrong]
    return said


def _key(row: Row) -> tuple[str, int, int]:
    return row["user"], row["window_start"], row["window_end"]


def _read(rows: list[tuple[int, Any]], text: str) -> list[tuple[int, Any]]:
    """What the reducer reads of them."""
    pairs = "y" in text
    return [(time, {"value": row["page"], "by": row["id"]} if pairs else row["id"]) for time, row in rows]


CASE = Case("sessions, reducers", build, {"clicks": [keyed(rows, "user") for rows in by_partition(ROWS)]}, judge)
