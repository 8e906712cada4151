"""Patterns in time: duplicates, what is followed by what, what is not; and functions of users, of frames and asynchronous."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import orjson
import polars as pl

from millstream.workers.app import App
from tests.crashes.case import Case, Outputs, Row, differences, keyed, out_of_order, rows_of
from tests.crashes.cases_rows import PARTITIONS, SCHEMA, by_partition, clicks
from tests.oracles import patterns as oracle

FIRSTS = clicks(24)
SECONDS = [{**row, "ts": row["ts"] + 150, "user": f"user-{row['id'] % 6}"} for row in clicks(14, step_ms=140)]
WITHIN = 700


def _stream(app: App, name: str):  # type: ignore[no-untyped-def]
    return app.stream(
        app.topic(
            name, SCHEMA, key="user", event_time="ts", partitions=PARTITIONS, out_of_order="1s", dead_letters="dead"
        )
    )


def _rows(rows: list[Row], by: str, side: int) -> list[oracle.Row | int]:
    """In the order in which each partition has them: that is the order of arrival of a key's rows."""
    return [
        oracle.Row(side, row[by], row["ts"], row["id"] + 1000 * side, -(10**18))
        for part in by_partition(rows)
        for row in part
    ]


# -- duplicates


def _build_deduplicate(keep: str, by: str) -> Callable[[App], None]:
    def build(app: App) -> None:
        kept = _stream(app, "first").deduplicate(by=by, within=f"{WITHIN}ms", keep=keep)
        kept.to(app.topic("kept", partitions=PARTITIONS))

    return build


def _judge_deduplicate(keep: str, by: str) -> Callable[[Outputs], list[str]]:
    expected = oracle.deduplicate(_rows(FIRSTS, by, 0), WITHIN, keep, 0).results
    return lambda outputs: differences("kept", expected, [row["id"] for row in rows_of(outputs, "kept")])


# -- what follows


def _build_followed(by: str) -> Callable[[App], None]:
    def build(app: App) -> None:
        first, second = _stream(app, "first"), _stream(app, "second")
        pairs = first.followed_by(second, by=by, within=f"{WITHIN}ms")
        pairs.select("id", "id_next").to(app.topic("pairs", partitions=PARTITIONS))
        alone = first.not_followed_by(second, by=by, within=f"{WITHIN}ms")
        alone.select("id").to(app.topic("alone", partitions=PARTITIONS))

    return build


def _judge_followed(by: str) -> Callable[[Outputs], list[str]]:
    events = _rows(FIRSTS, by, 0) + _rows(SECONDS, by, 1)
    pairs = [(first, second - 1000) for first, second in oracle.followed_by(events, WITHIN, 0).results]
    alone = oracle.not_followed_by(events, WITHIN, 0).results

    def judge(outputs: Outputs) -> list[str]:
        return [
            *differences("pairs", pairs, [(row["id"], row["id_next"]) for row in rows_of(outputs, "pairs")]),
            *differences("alone", alone, [row["id"] for row in rows_of(outputs, "alone")]),
        ]

    return judge


# -- functions

RAISES = 7


async def _turns(row: Row) -> None:
    """Those asked later often answer first."""
    for _ in range(row["id"] * 5 % 7):
        await asyncio.sleep(0)
    if row["id"] == RAISES:
        raise ValueError("seven")


async def _greeted(row: Row) -> Row:
    await _turns(row)
    return {**row, "page": f"hello {row['user']}"}


async def _twice(row: Row) -> AsyncIterator[Row]:
    await _turns(row)
    yield row
    yield row


async def _even(row: Row) -> bool:
    await _turns(row)
    return bool(row["id"] % 2 == 0)


def _in_capitals(frame: pl.DataFrame) -> pl.DataFrame:
    if (frame["id"] == RAISES).any():
        raise ValueError("seven")
    return frame.with_columns(pl.col("page").str.to_uppercase())


CALLED = clicks(16)
FUNCTIONS = ("mapped", "doubled", "even", "capitals")


def _build_functions(app: App) -> None:
    streams = {name: _stream(app, f"of-{name}") for name in FUNCTIONS}
    limits = {"concurrency_max": 3, "retries_max": 1, "retry_backoff": "1ms"}
    given = {
        "mapped": streams["mapped"].map(_greeted, **limits),
        "doubled": streams["doubled"].flat_map(_twice, **limits),
        "even": streams["even"].filter(_even, **limits),
        "capitals": streams["capitals"].map_batches(_in_capitals),
    }
    for name, stream in given.items():
        stream.to(app.topic(name, key="user", partitions=PARTITIONS))


def _judge_functions(outputs: Outputs) -> list[str]:
    good = [row for row in CALLED if row["id"] != RAISES]
    expected = {
        "mapped": [{**row, "page": f"hello {row['user']}"} for row in good],
        "doubled": [row for row in good for _ in range(2)],
        "even": [row for row in good if row["id"] % 2 == 0],
        "capitals": [{**row, "page": row["page"].upper()} for row in good],
    }
    letters = [orjson.loads(record.value or b"null")["id"] for partition in outputs["dead"] for record in partition]
    return [
        *(text for name in FUNCTIONS for text in differences(name, expected[name], rows_of(outputs, name))),
        *(text for name in FUNCTIONS for text in out_of_order(outputs, name, "id")),
        *differences("dead", [RAISES] * len(FUNCTIONS), letters),
    ]


INPUT = {
    name: [keyed(part, "user") for part in by_partition(rows)]
    for name, rows in (("first", FIRSTS), ("second", SECONDS))
}
_ONE = {"first": INPUT["first"]}

CASES = [
    Case("deduplicate, first", _build_deduplicate("first", "user"), _ONE, _judge_deduplicate("first", "user")),
    Case("deduplicate, earliest", _build_deduplicate("earliest", "page"), _ONE, _judge_deduplicate("earliest", "page")),
    Case("followed by", _build_followed("user"), INPUT, _judge_followed("user")),
    Case(
        "functions",
        _build_functions,
        {f"of-{name}": [keyed(part, "user") for part in by_partition(CALLED)] for name in FUNCTIONS},
        _judge_functions,
    ),
]
