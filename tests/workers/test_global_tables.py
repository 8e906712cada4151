"""A worker has the whole of a global table before it joins its group, and follows it from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from millstream import App
from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.memory import MemoryBroker
from millstream.topics.topic import topic
from millstream.workers.worker import Worker
from tests.polling import until

PARTITIONS = 2


def shop() -> App:
    app = App("shop", commit_interval="10ms", instance_id="one", retry_backoff_ms=5)
    clicks = app.stream(topic("clicks", {"user": "string", "country": "string"}, key="user", partitions=PARTITIONS))
    countries = app.global_table(topic("countries", {"country": "string", "name": "string"}, key="country"))
    clicks.join(countries, how="left").to(topic("out", partitions=1))
    return app


async def send(broker: MemoryBroker, name: str, index: int, rows: Sequence[tuple[str, dict[str, Any] | None]]) -> None:
    producer = broker.producer()
    await producer.start()
    keys = large_binary([key.encode() for key, _ in rows])
    values = large_binary([None if row is None else orjson.dumps(row) for _, row in rows])
    await (await producer.send(Partition(name, index), Records(keys, values)))
    await producer.stop()


async def found(broker: MemoryBroker) -> dict[str, str | None]:
    reader = broker.reader()
    await reader.start()
    reader.assign({Partition("out", 0): 0})
    fetches = await reader.poll(timeout_ms=10, records_max=1_000)
    await reader.stop()
    rows = [orjson.loads(value or b"") for fetch in fetches for value in fetch.values]
    return {row["user"]: row["name"] for row in rows}


async def test_it_is_loaded_first_and_followed_later() -> None:
    """Through a broker that is out of reach while it is loaded, and again later."""
    broker = MemoryBroker()
    await broker.create_topics([TopicSpec("clicks", PARTITIONS), TopicSpec("countries", 3)])
    for index, code in enumerate(("de", "fr", "it")):
        await send(broker, "countries", index, [(code, {"country": code, "name": code.upper()})])
    await send(broker, "clicks", 0, [("a", {"user": "a", "country": "it"}), ("b", {"user": "b", "country": "es"})])
    broker.faults.lose("list_offsets", 1)
    broker.faults.lose("list_offsets", 3, "after")
    worker = Worker(shop(), broker)
    running = asyncio.create_task(worker.run())

    async def first() -> bool:
        return await found(broker) == {"a": "IT", "b": None}

    await until(first)
    await send(broker, "countries", 0, [("es", {"country": "es", "name": "ES"}), ("de", None)])
    asked = [0]

    async def followed() -> bool:
        """Asked by new rows until one meets the change."""
        asked[0] += 1
        user = f"c{asked[0]}"
        await send(
            broker,
            "clicks",
            1,
            [(user, {"user": user, "country": "es"}), (f"{user}-de", {"user": f"{user}-de", "country": "de"})],
        )
        names = await found(broker)
        newest = [names.get(f"c{n}") for n in range(1, asked[0])]
        return "ES" in newest and names.get(f"c{asked[0] - 1}-de", "DE") is None

    await until(followed)
    worker.stop()
    await running
