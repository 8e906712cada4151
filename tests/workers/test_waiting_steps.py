"""Steps that wait for calls: their results come in order, and they may not share their rows with state."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar

import orjson
import polars as pl
import pytest

from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Batch, Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.memory import MemoryBroker
from millstream.topics.schema import Schema
from millstream.workers.app import App
from millstream.workers.driver import Driver
from millstream.workers.errors import PlanError
from millstream.workers.operator import AsyncOperator, Call, Emit
from millstream.workers.worker import Worker
from tests.workers.test_driver import CLICKS, click


class Shout:
    """Asks somebody slow to shout the user's name; the first one asked answers last."""

    kind: ClassVar[str] = "shout"

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return [Schema.of({"loud": "string", "ts": "timestamp_ms"})]

    def build(self, inputs: Sequence[Schema]) -> AsyncOperator:
        return _Shout()

    def describe(self) -> Mapping[str, str]:
        return {}


class _Shout(AsyncOperator):
    def submit(self, batch: Batch, input_index: int) -> Sequence[Call]:
        return [self._call(batch.replaced(batch.frame[row])) for row in range(len(batch))]

    def _call(self, row: Batch) -> Call:
        async def run() -> str:
            await asyncio.sleep(0)
            return str(row.frame["user"][0]).upper()

        return Call(row, run)

    def complete(self, call: Call, outcome: object) -> Sequence[Emit]:
        frame = call.row.frame.with_columns(loud=pl.lit(str(outcome))).select(
            "loud", "ts", "__time", "__before", "__offset"
        )
        return [Emit(call.row.replaced(frame))]


def test_results_of_calls_come_in_the_order_of_the_rows() -> None:
    app = App("shop")
    app.stream(app.topic("clicks", CLICKS, event_time="ts")).then(Shout()).to("loud")
    driver = Driver(app)
    driver.send("clicks", [click(user, 0) for user in ("ada", "bob", "cyd")])
    driver.commit()
    assert [row["loud"] for row in driver.rows("loud")] == ["ADA", "BOB", "CYD"]


def test_a_step_that_waits_may_not_share_its_rows_with_state() -> None:
    """They would be counted twice after a crash, for they are read again from the first call under way."""
    app = App("shop")
    rows = app.stream(app.topic("clicks", CLICKS, event_time="ts"))
    rows.then(Shout()).to("loud")
    rows.to("copy")
    with pytest.raises(PlanError, match="is read by other steps too"):
        Driver(app)


class ShoutSlowly(Shout):
    """As `Shout`, each call taking another number of turns of the event loop."""

    def build(self, inputs: Sequence[Schema]) -> AsyncOperator:
        return _ShoutSlowly()


class _ShoutSlowly(_Shout):
    def _call(self, row: Batch) -> Call:
        async def run() -> str:
            for _ in range(int(row.frame["ts"][0]) * 7 % 50):
                await asyncio.sleep(0)
            return str(row.frame["user"][0]).upper()

        return Call(row, run)


async def test_outcomes_that_come_while_others_are_worked_on_are_not_lost() -> None:
    """In a worker: hundreds of calls end at any moment, and every result is there once, in order."""
    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([TopicSpec("clicks", 1)])
    producer = broker.producer()
    await producer.start()
    rows = [orjson.dumps(click(f"user-{number:03d}", number)) for number in range(300)]
    await (await producer.send(Partition("clicks", 0), Records(None, large_binary(rows))))
    app = App("shop", commit_interval="5ms")
    source = app.topic("clicks", CLICKS, event_time="ts", partitions=1)
    app.stream(source).then(ShoutSlowly()).to(app.topic("loud", partitions=1))
    async with asyncio.timeout(30):
        await Worker(app, broker).run(until_end=True)
    reader = broker.reader()
    await reader.start()
    reader.assign({Partition("loud", 0): 0})
    found = [fetch.values for fetch in await reader.poll(timeout_ms=1_000, records_max=1_000)]
    assert [orjson.loads(value)["loud"] for values in found for value in values if value] == [
        f"USER-{n:03d}" for n in range(300)
    ]


class Hold:
    """Calls that say that they have begun and end when somebody else has; one row is all that may wait."""

    kind: ClassVar[str] = "hold"

    def __init__(self, says: asyncio.Event, waits: asyncio.Event) -> None:
        self.says = says
        self.waits = waits

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return [inputs[0]]

    def build(self, inputs: Sequence[Schema]) -> AsyncOperator:
        return _Hold(self)

    def describe(self) -> Mapping[str, str]:
        return {}


class _Hold(AsyncOperator):
    pending_rows_max = 1

    def __init__(self, step: Hold) -> None:
        self.step = step

    def submit(self, batch: Batch, input_index: int) -> Sequence[Call]:
        return [Call(batch.replaced(batch.frame[row]), self._run) for row in range(len(batch))]

    async def _run(self) -> None:
        self.step.says.set()
        await self.step.waits.wait()

    def complete(self, call: Call, outcome: object) -> Sequence[Emit]:
        return [Emit(call.row)]


async def test_a_step_that_is_full_does_not_stop_the_other_tasks_of_its_shard() -> None:
    """Its calls may wait for just those: a question for the shards of an index (`rag/operators/search.py`)."""
    broker, asked, helped = MemoryBroker(), asyncio.Event(), asyncio.Event()
    app = App("shop", commit_interval="20ms")
    asks, helps = app.topic("asks", CLICKS, event_time="ts"), app.topic("helps", CLICKS, event_time="ts")
    app.stream(asks).then(Hold(asked, helped)).to("asked")
    app.stream(helps).then(Hold(helped, helped)).to("helped")
    await broker.create_topics([TopicSpec(name, 1) for name in ("asks", "helps", "asked", "helped")])

    async def write(topic: str) -> None:
        producer = broker.producer()
        await producer.start()
        rows = [orjson.dumps(click("ada", at)) for at in range(3)]
        await (await producer.send(Partition(topic, 0), Records(None, large_binary(rows))))
        await producer.stop()

    worker = Worker(app, broker)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        await write("asks")
        reader = broker.reader()
        await reader.start()
        reader.assign({Partition("asked", 0): 0})
        await asked.wait()
        await write("helps")
        read = 0
        while read < 3:
            read += sum(map(len, await reader.poll(timeout_ms=100, records_max=10)))
        await reader.stop()
        worker.stop()
