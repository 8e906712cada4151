"""A whole worker over the in-memory broker: it joins, works, survives faults, hands over and stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import polars as pl
import pytest

from millstream.state.errors import DiskError
from millstream.state.stores.memory import Fault, MemoryDatabase, MemoryDatabases
from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.errors import ConfigurationError, TopicMismatchError
from millstream.topics.memory import MemoryBroker
from millstream.topics.memory.faults import Request, When
from millstream.topics.partitioner import murmur2
from millstream.workers.app import App
from millstream.workers.coordinator import Coordinator
from millstream.workers.errors import UserFunctionError
from millstream.workers.instrument import Remembered
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum
from millstream.workers.windows.tumbling import tumbling
from millstream.workers.worker import Worker

PARTITIONS = 2
USERS = 7
DEADLINE_S = 30


def shop(guarantee: str = "exactly_once", **options: Any) -> App:
    """Every click copied, and sums by page (through a repartition topic) that close with the windows."""
    app = App("shop", guarantee=guarantee, commit_interval="20ms", retry_backoff_ms=5, **options)
    schema = {"id": "int", "user": "string", "page": "string", "ts": "timestamp_ms"}
    clicks = app.topic("clicks", schema, key="user", event_time="ts", partitions=PARTITIONS, dead_letters="dead")
    rows = app.stream(clicks)
    rows.with_columns(copied=pl.lit(value=True)).to(app.topic("copies", key="user", partitions=PARTITIONS))
    sums = rows.window(tumbling("1s"), by="page", grace="0s", emit="final").agg(n=Count(), total=Sum("id"))
    sums.to(app.topic("sums", partitions=1))
    return app


def clicks(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"id": number, "user": f"user-{number % USERS}", "page": f"page-{number % 3}", "ts": number * 10}
        for number in range(first, first + count)
    ]


async def produce(broker: MemoryBroker, rows: list[dict[str, Any]], topic: str = "clicks") -> None:
    producer = broker.producer()
    await producer.start()
    for index in range(PARTITIONS):
        mine = [row for row in rows if (murmur2(row["user"].encode()) & 0x7FFFFFFF) % PARTITIONS == index]
        if mine:
            keys = large_binary([row["user"].encode() for row in mine])
            await (
                await producer.send(
                    Partition(topic, index), Records(keys, large_binary([orjson.dumps(r) for r in mine]))
                )
            )
    await producer.stop()


async def read(broker: MemoryBroker, topic: str) -> list[dict[str, Any]]:
    """Everything that is committed."""
    info = (await broker.describe_topics([topic])).get(topic)
    if info is None:
        return []
    reader = broker.reader()
    await reader.start()
    partitions = [Partition(topic, index) for index in range(info.partitions)]
    ends = await reader.end_offsets(partitions)
    reader.assign(dict.fromkeys(partitions, 0))
    rows: list[dict[str, Any]] = []
    while any(reader.position(partition) < ends[partition] for partition in partitions):
        for fetch in await reader.poll(timeout_ms=1_000, records_max=100_000):
            rows += [orjson.loads(value) for value in fetch.values if value is not None]
    await reader.stop()
    return rows


async def prepared(rows: int = 300) -> MemoryBroker:
    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([TopicSpec("clicks", PARTITIONS)])
    await produce(broker, clicks(rows))
    return broker


def expected_sums(count: int) -> dict[tuple[str, int], tuple[int, int]]:
    truth: dict[tuple[str, int], tuple[int, int]] = {}
    for row in clicks(count):
        key = (row["page"], row["ts"] // 1_000 * 1_000)
        n, total = truth.get(key, (0, 0))
        truth[key] = (n + 1, total + row["id"])
    return truth


async def assert_exactly_once(broker: MemoryBroker, count: int) -> None:
    ids = Counter(row["id"] for row in await read(broker, "copies"))
    assert ids == Counter(range(count))
    sums = await read(broker, "sums")
    assert len(sums) == len({(row["page"], row["window_start"]) for row in sums}), "each window once"
    assert {(row["page"], row["window_start"]): (row["n"], row["total"]) for row in sums} == expected_sums(count)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Polls a condition; the deadline only ends a test that would hang."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():
            await asyncio.sleep(0.005)


def copied(broker: MemoryBroker, count: int) -> Callable[[], Awaitable[bool]]:
    async def enough() -> bool:
        return len(await read(broker, "copies")) >= count

    return enough


# -- bounded and unbounded


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
async def test_a_bounded_run_works_everything_off_and_ends(guarantee: str) -> None:
    broker = await prepared()
    async with asyncio.timeout(DEADLINE_S):
        await Worker(shop(guarantee), broker).run(until_end=True)
    await assert_exactly_once(broker, 300)


async def test_a_bounded_run_over_empty_topics_ends() -> None:
    broker = MemoryBroker()
    async with asyncio.timeout(DEADLINE_S):
        await Worker(shop(), broker).run(until_end=True)
    assert await read(broker, "copies") == []


async def test_a_stopped_worker_goes_on_where_it_was() -> None:
    broker = await prepared()
    databases = MemoryDatabases()
    worker = Worker(shop(), broker, databases=databases)
    running = asyncio.create_task(worker.run())
    await until(copied(broker, 300))
    worker.stop()
    await running
    assert worker.statistics().state == "stopped"
    await produce(broker, clicks(300, first=300))
    async with asyncio.timeout(DEADLINE_S):
        await Worker(shop(), broker, databases=databases).run(until_end=True)
    await assert_exactly_once(broker, 600)


async def test_two_workers_share_and_one_takes_over() -> None:
    broker = await prepared()
    first, second = (Worker(shop(instance_id=name, leave_on_stop=True), broker) for name in ("one", "two"))
    tasks = [asyncio.create_task(worker.run()) for worker in (first, second)]

    async def shared() -> bool:
        owned = [{s.number for s in w.statistics().shards if s.phase != "closed"} for w in (first, second)]
        return owned in ([{0}, {1}], [{1}, {0}])

    await until(shared)
    first.stop()
    await tasks[0]
    await produce(broker, clicks(300, first=300))
    await until(copied(broker, 600))
    second.stop()
    await tasks[1]
    async with asyncio.timeout(DEADLINE_S):
        await Worker(shop(), broker).run(until_end=True)
    await assert_exactly_once(broker, 600)


async def test_a_rebalance_leaves_alone_what_stays() -> None:
    """Only the shard that moves gets a producer; records before, during and after come out once."""
    broker = await prepared()
    first, second = (Worker(shop(instance_id=name, leave_on_stop=True), broker) for name in ("one", "two"))
    one = asyncio.create_task(first.run())
    await until(copied(broker, 300))
    assert broker.faults.seen["init_producer"] == PARTITIONS
    two = asyncio.create_task(second.run())
    await until(owns(second, 1))
    await produce(broker, clicks(300, first=300))
    await until(copied(broker, 600))
    second.stop()
    await two
    await until(owns(first, 2))
    await produce(broker, clicks(300, first=600))
    await until(copied(broker, 900))
    assert broker.faults.seen["init_producer"] == PARTITIONS + 2
    first.stop()
    await one
    async with asyncio.timeout(DEADLINE_S):
        await Worker(shop(), broker).run(until_end=True)
    await assert_exactly_once(broker, 900)


async def test_in_doubt_all_is_taken_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the count above: with every generation in doubt each rebalance starts every producer."""
    monkeypatch.setattr(Coordinator, "_unbroken", lambda self, event: False)
    broker = await prepared()
    first, second = (Worker(shop(instance_id=name, leave_on_stop=True), broker) for name in ("one", "two"))
    tasks = [asyncio.create_task(first.run())]
    await until(copied(broker, 300))
    tasks.append(asyncio.create_task(second.run()))
    await until(owns(second, 1))
    await until(owns(first, 1))
    assert broker.faults.seen["init_producer"] == PARTITIONS + 2
    for worker in (first, second):
        worker.stop()
    await asyncio.gather(*tasks)


def owns(worker: Worker, count: int) -> Callable[[], Awaitable[bool]]:
    async def so() -> bool:
        open_shards = [shard for shard in worker.statistics().shards if shard.phase != "closed"]
        return worker.ready and len(open_shards) == count

    return so


# -- faults


LOST: list[Request] = ["init_producer", "produce", "send_offsets", "commit", "offset_fetch", "list_offsets", "fetch"]
LOST_MAX = 4
"""Of each kind the first so many requests; later ones repeat what these do."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("request_kind", LOST)
async def test_a_lost_request_or_answer_changes_no_result(request_kind: Request, when: When) -> None:
    """Each of the first requests of each kind is lost on its way there, or its answer on the way back."""
    hit = 0
    for nth in range(1, LOST_MAX + 1):
        broker = await prepared()
        broker.faults.seen.clear()
        broker.faults.lose(request_kind, nth, when)
        async with asyncio.timeout(DEADLINE_S):
            await Worker(shop(), broker).run(until_end=True)
        hit += broker.faults.seen[request_kind] >= nth
        broker.faults.clear()
        await assert_exactly_once(broker, 300)
    assert hit >= 2


# -- errors


async def test_a_topic_of_another_partition_count_is_refused_with_what_to_do() -> None:
    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([TopicSpec("clicks", PARTITIONS + 1)])
    with pytest.raises(TopicMismatchError, match="clicks"):
        await Worker(shop(), broker).run(until_end=True)


async def test_the_policy_fail_ends_the_worker_with_the_record_named() -> None:
    broker = MemoryBroker()
    await broker.start()
    app = App("strict")
    source = app.topic("in", {"n": "int"}, on_bad_record="fail", partitions=1)
    app.stream(source).to("out")
    await broker.create_topics([TopicSpec("in", 1)])
    producer = broker.producer()
    await producer.start()
    await (await producer.send(Partition("in", 0), Records(None, large_binary([b'{"n":1}', b'{"n":"x"}']))))
    with pytest.raises(UserFunctionError, match="in-0 offset 1: expected int"):
        async with asyncio.timeout(DEADLINE_S):
            await Worker(app, broker).run(until_end=True)


async def test_a_record_too_large_to_be_written_is_told_and_the_rest_goes_on() -> None:
    broker = MemoryBroker()
    await broker.start()
    app = App("large", commit_interval="20ms")
    lines = app.topic("lines", {"text": "string"}, partitions=1, dead_letters="dead")
    app.stream(lines).map(lambda row: {"text": row["text"] * 100}).to(app.topic("long", partitions=1))
    await broker.create_topics([TopicSpec("lines", 1)])
    producer = broker.producer()
    await producer.start()
    values = [orjson.dumps({"text": "x" * size}) for size in (10, 50_000, 20)]
    await (await producer.send(Partition("lines", 0), Records(None, large_binary(values))))
    instrument = Remembered()
    async with asyncio.timeout(DEADLINE_S):
        await Worker(app, broker, instrument=instrument).run(until_end=True)
    assert [len(row["text"]) for row in await read(broker, "long")] == [1_000, 2_000]
    assert instrument.total("rejected_records") == 1
    reader = broker.reader()
    await reader.start()
    reader.assign({Partition("dead", 0): 0})
    (letters,) = await reader.poll(timeout_ms=1_000, records_max=10)
    headers = dict(letters.headers[0])
    assert headers["__dead_letter.error"] == b"too_large"
    assert headers["__dead_letter.topic"] == b"long"


class FullDisk(MemoryDatabases):
    """Databases on a disk that is full when the first checkpoint is written."""

    def open(self, task: str) -> MemoryDatabase:
        database = super().open(task)
        database.fail_next(Fault.DISK_FULL)
        return database


async def test_a_full_disk_stops_the_worker_with_what_to_do_and_loses_nothing() -> None:
    broker = await prepared()
    with pytest.raises(DiskError):
        async with asyncio.timeout(DEADLINE_S):
            await Worker(shop(checkpoint_interval_ms=1), broker, databases=FullDisk()).run(until_end=True)
    async with asyncio.timeout(DEADLINE_S):
        await Worker(shop(), broker).run(until_end=True)
    await assert_exactly_once(broker, 300)


class Corrupt(MemoryDatabases):
    """Databases whose first checkpoint finds the files unreadable."""

    def __init__(self) -> None:
        super().__init__()
        self.faulty: set[str] = set()

    def open(self, task: str) -> MemoryDatabase:
        database = super().open(task)
        if task not in self.faulty:
            self.faulty.add(task)
            database.fail_next(Fault.CORRUPT)
        return database


async def test_a_corrupt_store_is_moved_aside_and_restored_from_its_changelog() -> None:
    broker = await prepared()
    async with asyncio.timeout(DEADLINE_S):
        await Worker(shop(checkpoint_interval_ms=1), broker, databases=Corrupt()).run(until_end=True)
    await assert_exactly_once(broker, 300)


async def test_a_broker_out_of_reach_at_the_start_is_waited_for() -> None:
    broker = await prepared()
    worker = Worker(shop(), broker)
    broker.faults.lose("metadata", 2)
    broker.faults.lose("metadata", 4)
    async with asyncio.timeout(DEADLINE_S):
        await worker.run(until_end=True)
    await assert_exactly_once(broker, 300)


async def test_a_missing_topic_that_may_not_be_created_is_named() -> None:
    broker = MemoryBroker()
    with pytest.raises(ConfigurationError, match="clicks"):
        await Worker(shop(create_topics=False), broker).run(until_end=True)
