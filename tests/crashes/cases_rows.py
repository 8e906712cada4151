"""Pipelines without time: row by row, with what cannot be worked on; and a step that waits for calls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson
import polars as pl

from millstream.topics.batch import Batch
from millstream.topics.partitioner import murmur2
from millstream.topics.schema import Schema
from millstream.workers.app import App
from millstream.workers.operator import AsyncOperator, Call, Emit
from tests.crashes.case import Case, Outputs, Row, differences, keyed, out_of_order, rows_of

PARTITIONS = 2
SCHEMA = {"id": "int", "user": "string", "page": "string", "ts": "timestamp_ms"}


def clicks(count: int, first: int = 0, step_ms: int = 100) -> list[Row]:
    """Users in turn, pages in another turn, times in order but for every seventh, which is a little behind."""
    return [
        {
            "id": n,
            "user": f"user-{n * 3 % 5}",
            "page": f"page-{n % 3}",
            "ts": n * step_ms - (n % 7 == 6) * step_ms * 3 // 2,
        }
        for n in range(first, first + count)
    ]


def by_partition(rows: Sequence[Row], column: str = "user") -> list[list[Row]]:
    """As a producer would have written them."""
    return [
        [row for row in rows if (murmur2(str(row[column]).encode()) & 0x7FFFFFFF) % PARTITIONS == index]
        for index in range(PARTITIONS)
    ]


# -- one row after the other


ROWS = clicks(44)
BROKEN = b'{"id": "no number"}'
RAISES = 13


def _doubled(row: Row) -> Row:
    if row["id"] == RAISES:
        raise ValueError("thirteen")
    return {**row, "twice": row["twice"] + 1}


def build_rows(app: App) -> None:
    source = app.topic("clicks", SCHEMA, key="user", event_time="ts", partitions=PARTITIONS, dead_letters="dead")
    kept = app.stream(source).filter(pl.col("id") % 5 != 4).with_columns(twice=pl.col("id") * 2).map(_doubled)
    copied = kept.flat_map(lambda row: [row] * (1 + row["id"] % 2)).select("id", "user", "twice")
    parts = copied.branch(low=pl.col("id") < 10, middle=pl.col("id") < 20)
    parts["low"].to(app.topic("low", key="user", partitions=PARTITIONS))
    parts["middle"].merge(parts["rest"]).to(app.topic("high", key="user", partitions=PARTITIONS))


def judge_rows(outputs: Outputs) -> list[str]:
    expected = [
        {"id": row["id"], "user": row["user"], "twice": 2 * row["id"] + 1}
        for row in ROWS
        if row["id"] % 5 != 4 and row["id"] != RAISES
        for _ in range(1 + row["id"] % 2)
    ]
    letters = [record for partition in outputs["dead"] for record in partition]
    dead = [(record.value, record.headers["__dead_letter.error"]) for record in letters]
    raised = orjson.dumps(next(row for row in ROWS if row["id"] == RAISES))
    return [
        *differences("low", [row for row in expected if row["id"] < 10], rows_of(outputs, "low")),
        *differences("high", [row for row in expected if row["id"] >= 10], rows_of(outputs, "high")),
        *differences("dead", [(BROKEN, b"decode"), (BROKEN, b"decode"), (raised, b"function")], dead),
        *out_of_order(outputs, "low", "id"),
        *out_of_order(outputs, "high", "id"),
    ]


def _with_broken(records: list[tuple[bytes, bytes]]) -> list[tuple[bytes | None, bytes | None]]:
    """One record in the middle that nobody can read."""
    middle = len(records) // 2
    return [*records[:middle], (b"user-0", BROKEN), *records[middle:]]


ROWS_CASE = Case(
    "rows", build_rows, {"clicks": [_with_broken(keyed(rows, "user")) for rows in by_partition(ROWS)]}, judge_rows
)


# -- calls


class Greeting:
    """Asks somebody slow to greet the user."""

    kind: ClassVar[str] = "greeting"

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return [Schema.of({"id": "int", "user": "string", "said": "string"})]

    def build(self, inputs: Sequence[Schema]) -> AsyncOperator:
        return _Greeting()

    def describe(self) -> Mapping[str, str]:
        return {}


class _Greeting(AsyncOperator):
    concurrency_max = 3
    pending_rows_max = 8

    def submit(self, batch: Batch, input_index: int) -> Sequence[Call]:
        return [self._call(batch.replaced(batch.frame[row])) for row in range(len(batch))]

    def _call(self, row: Batch) -> Call:
        number = int(row.frame["id"][0])

        async def run() -> str:
            """Those asked later often answer first."""
            for _ in range(number * 5 % 7):
                await asyncio.sleep(0)
            return f"hello {row.frame['user'][0]}"

        return Call(row, run)

    def complete(self, call: Call, outcome: object) -> Sequence[Emit]:
        frame = call.row.frame.with_columns(said=pl.lit(str(outcome))).select(
            "id", "user", "said", "__time", "__before", "__offset"
        )
        return [Emit(call.row.replaced(frame))]


CALLED = clicks(24)


def build_calls(app: App) -> None:
    source = app.topic("clicks", SCHEMA, key="user", event_time="ts", partitions=PARTITIONS)
    app.stream(source).then(Greeting()).to(app.topic("greetings", key="user", partitions=PARTITIONS))


def judge_calls(outputs: Outputs) -> list[str]:
    expected: list[dict[str, Any]] = [
        {"id": row["id"], "user": row["user"], "said": f"hello {row['user']}"} for row in CALLED
    ]
    return [
        *differences("greetings", expected, rows_of(outputs, "greetings")),
        *out_of_order(outputs, "greetings", "id"),
    ]


CALLS_CASE = Case("calls", build_calls, {"clicks": [keyed(rows, "user") for rows in by_partition(CALLED)]}, judge_calls)
