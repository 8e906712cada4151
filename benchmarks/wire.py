"""CPU microseconds a record on the wire: building record batches, and fetching them as columns.

    python -m benchmarks.wire --bootstrap 127.0.0.1:9092 [--records 1000000]

CPU time of this process only (the broker's is not ours), best of three, on the records of the window job: JSON of about
70 bytes, keys of 6 to 9.
"""

from __future__ import annotations

import argparse
import asyncio
import struct
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np
import pyarrow as pa

from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.kafka import KafkaBroker
from millstream.topics.kafka.fetch import RecordSet
from millstream.topics.record_batch import RecordBatch, record_batches

_BATCH = 8_000


def click_records(count: int, *, seed: int = 7) -> Records:
    draw = np.random.default_rng(seed)
    users = draw.integers(0, 10_000, count).tolist()
    pages = draw.integers(0, 500, count).tolist()
    values = [
        b'{"user_id":"user-%d","page":"/item/%d","price":%.2f,"ts":%d}'
        % (user, page, page / 7, 1_700_000_000_000 + row)
        for row, (user, page) in enumerate(zip(users, pages, strict=True))
    ]
    keys = [b"user-%d" % user for user in users]
    times = 1_700_000_000_000 + np.arange(count, dtype=np.int64)
    return Records(pa.array(keys, pa.large_binary()), pa.array(values, pa.large_binary()), times)


def best_us(records: int, work: Callable[[], object], *, times: int = 3) -> float:
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found) / records * 1e6


def without_times(records: Records) -> Records:
    return Records(records.keys, records.values)


def measure_build(records: Records) -> dict[str, float]:
    now_ms = 1_700_000_000_000

    def build(given: Records, compression: str) -> list[RecordBatch]:
        batches = record_batches(given, now_ms=now_ms, compression=compression)  # type: ignore[arg-type]
        for batch in batches:
            batch.to_bytes()
        return batches

    flat = without_times(records)
    return {
        "build, no compression": best_us(len(records), lambda: build(flat, "none")),
        "build, own timestamps": best_us(len(records), lambda: build(records, "none")),
        "build, zstd": best_us(len(records), lambda: build(flat, "zstd")),
        "build, lz4": best_us(len(records), lambda: build(flat, "lz4")),
    }


def measure_parse(records: Records) -> dict[str, float]:
    """Without a broker: fetch answers of eight batches each."""

    def answers(given: Records, compression: str) -> list[bytes]:
        """As a broker stores them: it writes each batch's first offset, which the checksum leaves out."""
        batches = record_batches(given, now_ms=1, compression=compression)  # type: ignore[arg-type]
        stored, offset = [], 0
        for batch in batches:
            stored.append(struct.pack(">q", offset) + batch.to_bytes()[8:])
            offset += batch.count
        return [b"".join(stored[at : at + 8]) for at in range(0, len(stored), 8)]

    def parse(buffers: list[bytes]) -> None:
        offset = 0
        for buffer in buffers:
            unread = RecordSet(
                Partition("t", 0),
                buffer,
                fetch_offset=offset,
                end_offset=1 << 40,
                aborted=None,
                read_committed=True,
                check_crcs=True,
            )
            while not unread.exhausted:
                offset = unread.take(records_max=16_000, bytes_max=1 << 24).next_offset
        assert offset == len(records)

    cases = {
        "parse, no compression": answers(without_times(records), "none"),
        "parse, own timestamps": answers(records, "none"),
        "parse, zstd": answers(records, "zstd"),
        "parse, lz4": answers(records, "lz4"),
    }
    return {name: best_us(len(records), partial(parse, given)) for name, given in cases.items()}


async def measure_broker(bootstrap: str, records: Records) -> dict[str, float]:
    broker = KafkaBroker({"bootstrap.servers": bootstrap})
    await broker.start()
    topic = f"wire-{uuid.uuid4().hex[:8]}"
    partitions = [Partition(topic, index) for index in range(2)]
    await broker.create_topics([TopicSpec(topic, len(partitions), 1)])
    try:
        return {
            "send": await _cpu_us(len(records), lambda: _send(broker, partitions, records)),
            "fetch": min([await _cpu_us(len(records), lambda: _fetch(broker, partitions)) for _ in range(3)]),
        }
    finally:
        await broker.delete_topics([topic])
        await broker.stop()


async def _cpu_us(count: int, work: Callable[[], Awaitable[None]]) -> float:
    start = time.process_time()
    await work()
    return (time.process_time() - start) / count * 1e6


async def _send(broker: KafkaBroker, partitions: list[Partition], records: Records) -> None:
    producer = broker.producer()
    await producer.start()
    for number, at in enumerate(range(0, len(records), _BATCH)):
        assert records.keys is not None
        part = Records(records.keys[at : at + _BATCH], records.values[at : at + _BATCH])
        await producer.send(partitions[number % len(partitions)], part)
    await producer.stop()


async def _fetch(broker: KafkaBroker, partitions: list[Partition]) -> None:
    reader = broker.reader()
    await reader.start()
    ends = await reader.end_offsets(partitions)
    reader.assign(dict.fromkeys(partitions, 0))
    while any(reader.position(partition) < end for partition, end in ends.items()):
        await reader.poll(timeout_ms=1_000, records_max=50_000)
    await reader.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bootstrap", help="a running broker; without it only what needs none is measured")
    parser.add_argument("--records", type=int, default=400_000)
    given = parser.parse_args()
    records = click_records(given.records)
    results = measure_build(records) | measure_parse(records)
    if given.bootstrap:
        results |= asyncio.run(measure_broker(given.bootstrap, records))
    for name, value in results.items():
        print(f"{name:28} {value:6.3f} us a record")


if __name__ == "__main__":
    main()
