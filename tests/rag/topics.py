"""Writes to and reads from the topics of a document pipeline that runs in a worker."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import pyarrow as pa

from millstream.topics.batch import Partition, Records
from millstream.topics.memory import MemoryBroker
from millstream.topics.partitioner import murmur2

PARTITIONS = 2


async def write(broker: MemoryBroker, topic: str, records: Mapping[str, bytes | None]) -> None:
    producer = broker.producer()
    await producer.start()
    for key, value in records.items():
        one = Records(pa.array([key.encode()], pa.large_binary()), pa.array([value], pa.large_binary()))
        partition = (murmur2(key.encode()) & 0x7FFFFFFF) % PARTITIONS
        await (await producer.send(Partition(topic, partition), one))
    await producer.stop()


async def following(broker: MemoryBroker, topic: str, key: str, version: str | None = None) -> dict:
    """The committed record of this key (and, of a status, of this version)."""
    reader = broker.reader()
    await reader.start()
    reader.assign({Partition(topic, index): 0 for index in range(PARTITIONS)})
    try:
        while True:
            for fetch in await reader.poll(timeout_ms=1_000, records_max=100):
                for found, value in zip(fetch.keys, fetch.values, strict=True):
                    body = orjson.loads(value) if found == key.encode() and value else None
                    if body is not None and version in {None, body.get("version")}:
                        return body  # type: ignore[no-any-return]
    finally:
        await reader.stop()


async def ends(broker: MemoryBroker, topic: str) -> dict[int, int]:
    """Next offset by partition, with what is not committed yet: the last stable one may lie before what was."""
    reader = broker.reader(isolation="read_uncommitted")
    await reader.start()
    found = await reader.end_offsets([Partition(topic, index) for index in range(PARTITIONS)])
    await reader.stop()
    return {partition.index: offset for partition, offset in found.items()}
