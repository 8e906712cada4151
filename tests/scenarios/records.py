"""Rows in and records out of topics of a real Kafka, for small pipelines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from millstream.state.directory import StateDirectory
from millstream.state.settings import StateSettings
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.kafka.broker import KafkaBroker
from millstream.topics.partitioner import murmur2
from millstream.workers.app import App
from millstream.workers.worker import Worker

Row = dict[str, Any]
Change = tuple[str, Row | None]
"""Key and row; None: a tombstone."""


async def produce(broker: KafkaBroker, topic: str, changes: Sequence[Change], partitions: int) -> None:
    """Creates the topic where it is missing; the order of a key's changes stays."""
    await broker.create_topics([TopicSpec(topic, partitions)])
    producer = broker.producer()
    await producer.start()
    for index in range(partitions):
        mine = [one for one in changes if (murmur2(one[0].encode()) & 0x7FFFFFFF) % partitions == index]
        if mine:
            keys = large_binary([key.encode() for key, _ in mine])
            values = large_binary([None if row is None else orjson.dumps(row) for _, row in mine])
            await (await producer.send(Partition(topic, index), Records(keys, values)))
    await producer.stop()


async def read(broker: KafkaBroker, topic: str, partitions: int) -> list[Change]:
    """Everything that is committed, partition by partition."""
    reader = broker.reader()
    await reader.start()
    everywhere = [Partition(topic, index) for index in range(partitions)]
    reader.assign(dict.fromkeys(everywhere, 0))
    ends = await reader.end_offsets(everywhere)
    at: dict[Partition, int] = dict.fromkeys(everywhere, 0)
    found: list[Change] = []
    async with asyncio.timeout(60):
        while any(at[one] < ends[one] for one in everywhere):
            for fetch in await reader.poll(timeout_ms=200, records_max=10_000):
                for key, value in zip(fetch.keys, fetch.values, strict=True):
                    found.append(((key or b"").decode(), None if value is None else orjson.loads(value)))
                at[fetch.partition] = fetch.next_offset
    await reader.stop()
    return found


def newest(changes: Sequence[Change]) -> dict[str, Row]:
    """What a reader of a table's topic has at the end."""
    table: dict[str, Row] = {}
    for key, row in changes:
        table.pop(key, None)
        if row is not None:
            table[key] = row
    return table


def worker_on(kafka: str, app: App, folder: Path) -> Worker:
    """Its state in RocksDB in that folder."""
    shared = RocksShared(StateSettings())
    directory = StateDirectory(folder, app.name, lambda path: RocksDatabase(path, shared))
    return Worker(app, KafkaBroker({"bootstrap.servers": kafka}), databases=directory)
