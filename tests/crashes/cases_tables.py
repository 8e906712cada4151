"""Tables: streams that look into one, joins by key and by foreign key, groups that follow their rows down as well as up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import polars as pl

from millstream.topics.partitioner import murmur2
from millstream.topics.topic import Topic
from millstream.workers.app import App
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum
from tests.crashes.case import Case, Outputs, Row, differences, keyed, rows_of
from tests.crashes.cases_rows import PARTITIONS, SCHEMA, by_partition, clicks
from tests.oracles import tables as oracle

Change = tuple[str, Row | None]

CLICKS = clicks(24)
USERS = {f"user-{n}": {"id": f"user-{n}", "r": n} for n in range(4)}
"""The fifth is not there. All are written twice: where only a half of the input is there at the start, it has each of them."""

ORDERS: list[Change] = [
    *((f"o{n}", {"id": f"o{n}", "ref": f"user-{n % 4}", "n": n}) for n in range(10)),
    *((f"o{n}", None) for n in (1, 4)),
    *((f"o{n}", {"id": f"o{n}", "ref": f"user-{(n + 1) % 4}", "n": n * 10}) for n in range(2, 8)),
    *((f"o{n}", {"id": f"o{n}", "ref": None if n % 2 else "user-9", "n": n}) for n in (3, 5, 6)),
    ("o4", {"id": "o4", "ref": "user-0", "n": 44}),
]
PARTNERS: list[Change] = [
    *((key, row) for key, row in USERS.items()),
    ("user-0", None),
    ("user-1", {"id": "user-1", "r": 100}),
    ("user-9", {"id": "user-9", "r": 9}),
    ("user-0", {"id": "user-0", "r": 50}),
    ("user-2", None),
]


def _records(changes: Sequence[Change]) -> list[list[tuple[bytes | None, bytes | None]]]:
    """As a producer would have written them, partition by partition."""
    parts: list[list[tuple[bytes | None, bytes | None]]] = [[] for _ in range(PARTITIONS)]
    for key, row in changes:
        index = (murmur2(key.encode()) & 0x7FFFFFFF) % PARTITIONS
        parts[index].append((key.encode(), None if row is None else orjson.dumps(row)))
    return parts


def _now(changes: Sequence[Change]) -> dict[str, Row]:
    table: dict[str, Row] = {}
    for key, row in changes:
        table.pop(key, None)
        if row is not None:
            table[key] = row
    return table


def _topic(app: App, name: str, columns: Mapping[str, Any]) -> Topic:
    return app.topic(name, columns, key="id", partitions=PARTITIONS, cleanup="compact")


def _orders(app: App) -> Topic:
    return _topic(app, "orders", {"id": "string", "ref": "string", "n": "int"})


def _partners(app: App) -> Topic:
    return _topic(app, "users", {"id": "string", "r": "int"})


def _out(app: App, key: str = "id") -> Topic:
    return app.topic("out", key=key, partitions=PARTITIONS, cleanup="compact")


def _judge(expected: Mapping[Any, Row], key: str = "id", *, no_needless: bool = True) -> Callable[[Outputs], list[str]]:
    """What a reader of all records has at the end; and that no tombstone took away what was not there."""

    def judge(outputs: Outputs) -> list[str]:
        there: dict[bytes | None, Row] = {}
        said = []
        for record in (one for partition in outputs["out"] for one in partition):
            if record.value is not None:
                there[record.key] = record.row
            elif there.pop(record.key, None) is None and no_needless:
                said.append(f"out: a tombstone for {record.key!r}, which was not there")
        return said + differences("out", list(expected.values()), list(there.values()))

    return judge


# -- a stream that looks into a table


def _build_join(app: App) -> None:
    source = app.topic("clicks", SCHEMA, key="user", event_time="ts", partitions=PARTITIONS)
    joined = app.stream(source).join(app.table(_partners(app)), on="user", how="left")
    joined.select("id", "r").to(app.topic("out", partitions=PARTITIONS))


def _judge_join(outputs: Outputs) -> list[str]:
    """The table does not change here, so each row has met what was loaded before the first of them."""
    expected = [{"id": row["id"], "r": USERS.get(row["user"], {"r": None})["r"]} for row in CLICKS]
    return differences("out", expected, rows_of(outputs, "out"))


# -- tables with tables


def _build_tables(app: App) -> None:
    left = app.table(_orders(app)).select("id", l=pl.col("n"))
    right = app.table(_topic(app, "users", {"id": "string", "r": "int"}))
    left.join(right.filter(pl.col("r") != 3), how="outer").materialized("both").to(_out(app))


def _build_foreign(app: App) -> None:
    app.table(_orders(app)).join(app.table(_partners(app)), on="ref", how="left").to(_out(app))


def _build_groups(app: App) -> None:
    app.table(_orders(app)).group_by("ref").agg(count=Count(), total=Sum("n")).to(_out(app, "ref"))


def _build_global(app: App) -> None:
    source = app.topic("clicks", SCHEMA, key="user", event_time="ts", partitions=PARTITIONS)
    joined = app.stream(source).join(app.global_table(_partners(app)), on="user", how="inner")
    joined.select("id", "r").to(app.topic("out", partitions=PARTITIONS))


def _judge_global(outputs: Outputs) -> list[str]:
    expected = [{"id": row["id"], "r": USERS[row["user"]]["r"]} for row in CLICKS if row["user"] in USERS]
    return differences("out", expected, rows_of(outputs, "out"))


_SAME_KEYS: list[Change] = [(f"o{key[-1]}", row and {**row, "id": f"o{key[-1]}"}) for key, row in PARTNERS]
_LEFT = {key: {"id": key, "l": row["n"]} for key, row in _now(ORDERS).items()}
_RIGHT = {key: row for key, row in _now(_SAME_KEYS).items() if row["r"] != 3}
_GROUPS = {
    group: {name: row[name] for name in ("ref", "count", "total")}
    for group, row in oracle.grouped(_now(ORDERS), "ref").items()
}

CASES = [
    Case(
        "join with a table",
        _build_join,
        {"clicks": [keyed(rows, "user") for rows in by_partition(CLICKS)], "users": _records([*USERS.items()] * 2)},
        _judge_join,
    ),
    Case(
        "join with a global table",
        _build_global,
        {"clicks": [keyed(rows, "user") for rows in by_partition(CLICKS)], "users": _records([*USERS.items()] * 2)},
        _judge_global,
    ),
    Case(
        "table join, outer",
        _build_tables,
        {"orders": _records(ORDERS), "users": _records(_SAME_KEYS)},
        _judge(oracle.table_join(_LEFT, _RIGHT, "outer")),
    ),
    Case(
        "foreign key join, left",
        _build_foreign,
        {"orders": _records(ORDERS), "users": _records(PARTNERS)},
        _judge(oracle.foreign_key_join(_now(ORDERS), _now(PARTNERS), "left"), no_needless=False),
    ),
    Case("table groups", _build_groups, {"orders": _records(ORDERS)}, _judge(_GROUPS, "ref")),
]
