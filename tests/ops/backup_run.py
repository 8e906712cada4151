"""An app with state before and behind a repartition topic, run over a memory broker, for the tests of backups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from millstream import App, count, sum_, tumbling
from millstream.ops.backup.manifest import Manifest
from millstream.ops.backup.place import Place
from millstream.ops.backup.restore import perform_restore, plan_restore
from millstream.ops.backup.take import take_backup
from millstream.state.store import Databases
from millstream.topics.batch import Partition
from millstream.topics.broker import Broker, TopicSpec
from millstream.topics.memory import MemoryBroker
from millstream.workers.worker import Worker
from tests.contracts.broker_tools import read_to_end, records, started
from tests.polling import until

PARTITIONS = 2


def shop(guarantee: str = "exactly_once", into: App | None = None) -> App:
    """Sums by page behind a repartition topic, and by user without one."""
    app = into or App("shop", guarantee=guarantee, commit_interval="5ms", retry_backoff_ms=5)
    schema = {"user": "string", "page": "string", "price": "int", "ts": "timestamp_ms"}
    clicks = app.topic("clicks", schema, key="user", event_time="ts", partitions=PARTITIONS)
    rows = app.stream(clicks)
    for by in ("page", "user"):
        window = rows.window(tumbling("1s"), by=by, grace="0s", emit="final", name=f"by_{by}")
        window.agg(n=count(), total=sum_("price")).to(app.topic(f"{by}s", partitions=PARTITIONS))
    return app


async def click(broker: Broker, first: int, last: int) -> None:
    async with started(broker.producer()) as producer:
        for number in range(first, last):
            row = {"user": f"u{number % 5}", "page": f"p{number % 3}", "price": number, "ts": number * 100}
            target = Partition("clicks", number % 5 % PARTITIONS)
            await producer.send(target, records(orjson.dumps(row), keys=[f"u{number % 5}".encode()]))


async def cluster(clicks: int = 0) -> MemoryBroker:
    broker = MemoryBroker()
    await broker.create_topics([TopicSpec("clicks", PARTITIONS)])
    await click(broker, 0, clicks)
    return broker


async def results(broker: Broker) -> set[str]:
    """Every result of every topic, as text."""
    found: set[str] = set()
    for topic in ("pages", "users"):
        for index in range(PARTITIONS if topic in await broker.list_topics() else 0):
            for fetch in await read_to_end(broker, Partition(topic, index)):
                found |= {f"{topic} {(value or b'').decode()}" for value in fetch.values}
    return found


async def work_until(broker: Broker, app: App, done: Callable[[], Any], databases: Databases | None = None) -> None:
    worker = Worker(app, broker, databases=databases)
    running = asyncio.create_task(worker.run())

    async def happened() -> bool:
        if running.done():
            running.result()
        return bool(await done())

    await until(happened)
    worker.stop()
    await running


def caught_up(broker: Broker, clicks: int) -> Callable[[], Any]:
    async def done() -> bool:
        offsets = await broker.group_offsets("shop")
        return sum(one.offset for at, one in offsets.items() if at.topic == "clicks") == clicks

    return done


def quiet(what: str, done: int, left: int) -> None:
    """No progress to be shown."""


async def backed_up(broker: Broker, place: Place, **options: Any) -> Manifest:
    return await take_backup(broker, "shop", place, quiet, version="1", **options)


async def restored(broker: Broker, place: Place, tmp_path: Path, *, force: bool = False) -> None:
    await perform_restore(broker, await plan_restore(broker, "shop", place, tmp_path), quiet, force=force)


async def expected() -> set[str]:
    """Of an undisturbed run over all clicks."""
    broker = await cluster(200)
    await Worker(shop(), broker).run(until_end=True)
    return await results(broker)


async def backup_of_50_clicks(folder: Path) -> Path:
    broker = await cluster(50)
    await work_until(broker, shop(), caught_up(broker, 50))
    await backed_up(broker, Place(str(folder)))
    return folder
