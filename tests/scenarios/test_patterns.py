"""Patterns and functions that wait, on a real Kafka: a worker is stopped in the middle, another one goes on from its files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millstream.topics.kafka.broker import KafkaBroker
from millstream.workers.app import App
from millstream.workers.worker import Worker
from tests.oracles import patterns as oracle
from tests.polling import until
from tests.scenarios.records import produce, read, worker_on

PARTITIONS = 2
ROWS = 3_000
WITHIN = 400
Row = dict[str, Any]


def _rows(side: int) -> list[Row]:
    """Users in turn, some behind others in time, never by more than the 100 ms that the topics say."""
    return [{"id": n, "user": f"u{n * 7 % 40}", "ts": 10 * n + 3 * side - n * 37 % 90} for n in range(side, ROWS, 2)]


async def _asked(row: Row) -> Row:
    await asyncio.sleep(0)
    return {**row, "user": row["user"].upper()}


def _app(name: str) -> App:
    app = App(name, commit_interval="20ms", checkpoint_interval_ms=100, poll_records_max=200)
    schema = {"id": "int", "user": "string", "ts": "timestamp_ms"}
    a, b = (
        app.stream(
            app.topic(f"{name}.{one}", schema, key="user", event_time="ts", out_of_order="100ms", partitions=PARTITIONS)
        )
        for one in "ab"
    )
    once = a.deduplicate(by="user", within=f"{WITHIN}ms", keep="earliest")
    for what, stream in (
        ("pairs", once.followed_by(b, by="user", within=f"{WITHIN}ms").select("id", "id_next")),
        ("alone", once.not_followed_by(b, by="user", within=f"{WITHIN}ms").select("id")),
    ):
        stream.to(app.topic(f"{name}.{what}", partitions=PARTITIONS))
    source = app.topic(f"{name}.c", schema, key="user", partitions=PARTITIONS)
    app.stream(source).map(_asked).to(app.topic(f"{name}.asked", key="user", partitions=PARTITIONS))
    return app


async def _read(broker: KafkaBroker, topic: str) -> list[Row]:
    return [row for _, row in await read(broker, topic, PARTITIONS) if row is not None]


def _expected() -> tuple[list[Any], list[Any]]:
    events: list[oracle.Row | int] = [oracle.Row(0, r["user"], r["ts"], r["id"], -(10**18)) for r in _rows(0)]
    kept = set(oracle.deduplicate(events, WITHIN, "earliest", 0).results)
    events = [event for event in events if isinstance(event, oracle.Row) and event.value in kept]
    events += [oracle.Row(1, r["user"], r["ts"], r["id"], -(10**18)) for r in _rows(1)]
    return oracle.followed_by(events, WITHIN, 0).results, oracle.not_followed_by(events, WITHIN, 0).results


@pytest.mark.kafka
async def test_patterns_and_awaited_functions_over_a_restart(
    kafka: str, unique: Callable[[str], str], tmp_path: Path
) -> None:
    name = unique("patterns")
    broker = KafkaBroker({"bootstrap.servers": kafka})
    await broker.start()
    for topic, rows in (("a", _rows(0)), ("b", _rows(1)), ("c", _rows(0))):
        await produce(broker, f"{name}.{topic}", [(row["user"], row) for row in rows], PARTITIONS)

    def worker() -> Worker:
        return worker_on(kafka, _app(name), tmp_path)

    first = worker()
    running = asyncio.create_task(first.run())

    async def some_are_there() -> bool:
        return first.ready and len(await _read(broker, f"{name}.asked")) > 100

    await until(some_are_there)
    first.stop()
    await running
    async with asyncio.timeout(120):
        await worker().run(until_end=True)

    pairs, alone = _expected()
    assert sorted((row["id"], row["id_next"]) for row in await _read(broker, f"{name}.pairs")) == sorted(pairs)
    assert sorted(row["id"] for row in await _read(broker, f"{name}.alone")) == sorted(alone)
    asked = sorted(row["id"] for row in await _read(broker, f"{name}.asked"))
    assert asked == sorted(row["id"] for row in _rows(0))
    await broker.stop()
