"""Counts without windows: every change is told once a commit, and each is what a reader of the rows in order would have."""

from __future__ import annotations

from millstream.workers.app import App
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.last import Last
from millstream.workers.reducers.sum import Sum
from tests.crashes.case import Case, Outputs, Row, keyed, rows_of
from tests.crashes.cases_rows import PARTITIONS, SCHEMA, by_partition, clicks

ROWS = clicks(40)
INPUT = {"clicks": [keyed(rows, "user") for rows in by_partition(ROWS)]}


def build(app: App) -> None:
    source = app.stream(app.topic("clicks", SCHEMA, key="user", event_time="ts", partitions=PARTITIONS))
    table = source.group_by("user").agg(n=Count(), total=Sum("id"), newest=Last("id"))
    table.to(app.topic("totals", key="user", partitions=PARTITIONS, cleanup="compact"))


def judge(outputs: Outputs) -> list[str]:
    """Each upsert is a prefix of the user's rows, each prefix is given at most once and in order, and the last is all of them."""
    told: list[str] = []
    given: dict[str, int] = {}
    for row in rows_of(outputs, "totals"):
        told += _wrong(row, given.get(row["user"], 0))
        given[row["user"]] = row["n"]
    return told + [f"totals: lost rows of {user}" for user in _users() if given.get(user) != len(_ids(user))]


def _wrong(row: Row, before: int) -> list[str]:
    ids = _ids(row["user"])
    if row["n"] <= before:
        return [f"totals: twice, or back from {before}: {row}"]
    read = enumerate(ROWS_OF[row["user"]][: row["n"]])
    latest = max(read, key=lambda one: (one[1]["ts"], one[0]))[1]["id"]
    if (row["total"], row["newest"]) != (sum(ids[: row["n"]]), latest):
        return [f"totals: wrong {row}"]
    return []


ROWS_OF: dict[str, list[Row]] = {}
for _partition in by_partition(ROWS):
    for _row in _partition:
        ROWS_OF.setdefault(_row["user"], []).append(_row)


def _ids(user: str) -> list[int]:
    return [row["id"] for row in ROWS_OF[user]]


def _users() -> list[str]:
    return sorted(ROWS_OF)


CASE = Case("groups", build, INPUT, judge)
