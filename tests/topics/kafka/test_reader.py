"""Reading on a real Kafka: the same records as the stock consumer, positions, ends, limits."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from millstream.topics.batch import Partition, Records
from millstream.topics.errors import ConfigurationError
from millstream.topics.kafka import KafkaBroker
from tests.topics.kafka.conftest import read_all, records, settled, until

pytestmark = pytest.mark.kafka


def random_records(draw: Random) -> Records:
    count = draw.choice([1, 3, 50])

    def column() -> pa.LargeBinaryArray:
        rows = [draw.choice([None, b"", draw.randbytes(draw.randrange(40))]) for _ in range(count)]
        return pa.array(rows, pa.large_binary())

    times = (
        np.array([draw.randrange(10**12, 17 * 10**11) for _ in range(count)], np.int64) if draw.random() < 0.5 else None
    )
    headers = [((("h", b"1"), ("h", None)) if draw.random() < 0.3 else ()) for _ in range(count)]
    return Records(column() if draw.random() < 0.8 else None, column(), times, headers if draw.random() < 0.4 else None)


async def write_random_log(kafka: str, topic: str, name: str, draw: Random) -> None:
    """Interleaved transactions of three producers and plain sends, in every compression; one stays open."""
    brokers = [KafkaBroker({"bootstrap.servers": kafka, "compression.type": how}) for how in ("none", "lz4", "zstd")]
    writers = [broker.producer(transactional_id=f"{name}-{number}") for number, broker in enumerate(brokers)]
    plain = brokers[0].producer()
    for producer in (*writers, plain):
        await producer.start()
    began: set[int] = set()
    for _ in range(60):
        number = draw.randrange(4)
        if number == 3:
            await (await plain.send(Partition(topic, 0), random_records(draw)))
            continue
        if number not in began:
            await writers[number].begin()
            began.add(number)
        await (await writers[number].send(Partition(topic, 0), random_records(draw)))
        if draw.random() < 0.5:
            await (writers[number].commit() if draw.random() < 0.5 else writers[number].abort())
            began.discard(number)
    for number in began - {min(began, default=0)}:
        await writers[number].commit()
    for producer in (*writers, plain):
        await producer.drop()


async def stock_rows(kafka: str, topic: str, isolation: str, end: int) -> list[tuple]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, isolation_level=isolation, auto_offset_reset="none")
    await consumer.start()
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek(place, 0)
    rows = []
    while await consumer.position(place) < end:
        for found in (await consumer.getmany(timeout_ms=500)).values():
            rows += [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in found]
    await consumer.stop()
    return [row for row in rows if row[0] < end]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
async def test_a_log_of_random_transactions_reads_as_by_the_stock_consumer(
    broker, kafka, make_topic, unique, seed, isolation
):
    topic = await make_topic()
    await write_random_log(kafka, topic, unique("writer"), Random(seed))
    reader = broker.reader(isolation=isolation)
    await reader.start()
    fetches = await read_all(reader, {Partition(topic, 0): 0})
    end = reader.position(Partition(topic, 0))
    rows = [
        (offset, time, key, value, fetch.headers.get(number, ()))
        for fetch in fetches
        for number, (offset, time, key, value) in enumerate(
            zip(fetch.offsets.tolist(), fetch.timestamps.tolist(), fetch.keys, fetch.values, strict=True)
        )
    ]
    assert await stock_rows(kafka, topic, isolation, end) == rows
    assert all(a.next_offset == b.first_offset for a, b in pairwise(fetches))
    assert fetches[-1].caught_up
    await reader.stop()


async def test_the_end_of_committed_data_is_the_last_stable_offset(broker, make_topic, unique):
    place = Partition(await make_topic(), 0)
    producer = broker.producer(transactional_id=unique("id"))
    await producer.start()
    await producer.begin()
    await (await producer.send(place, records(b"open", b"still open")))
    ends = {}
    for isolation in ("read_committed", "read_uncommitted"):
        reader = broker.reader(isolation=isolation)
        await reader.start()
        ends[isolation] = (await reader.end_offsets([place]))[place]
        reader.assign({place: 0})
        (fetch,) = await reader.poll(timeout_ms=10_000, records_max=10)
        assert (ends[isolation], True, ends[isolation]) == (fetch.end_offset, fetch.caught_up, len(fetch))
        await reader.stop()
    assert {"read_committed": 0, "read_uncommitted": 2} == ends
    await producer.abort()
    await producer.stop()


async def test_an_aborted_transaction_moves_the_position_without_records(broker, make_topic, unique):
    place = Partition(await make_topic(), 0)
    producer = broker.producer(transactional_id=unique("id"))
    await producer.start()
    await producer.begin()
    await producer.send(place, records(b"a", b"b"))
    await producer.abort()
    await producer.stop()
    await settled(broker, place)
    reader = broker.reader()
    await reader.start()
    (fetch,) = await read_all(reader, {place: 0})
    assert (0, 0, 3, 3) == (len(fetch), fetch.first_offset, fetch.next_offset, fetch.end_offset)
    assert [] == await reader.poll(timeout_ms=200, records_max=10)
    await reader.stop()


async def test_an_empty_partition_is_told_to_be_caught_up_once(broker, make_topic):
    topic = await make_topic(partitions=2)
    places = {Partition(topic, 0): 0, Partition(topic, 1): 0}
    reader = broker.reader()
    await reader.start()
    reader.assign(places)
    told = []
    while len(told) < 2:
        told += await reader.poll(timeout_ms=1_000, records_max=10)
    assert set(places) == {fetch.partition for fetch in told}
    assert all(fetch.caught_up and not len(fetch) for fetch in told)
    assert [] == await reader.poll(timeout_ms=300, records_max=10)
    await reader.stop()


async def test_what_was_prefetched_is_kept_for_partitions_not_polled(broker, make_topic):
    topic = await make_topic(partitions=2)
    producer = broker.producer()
    await producer.start()
    for index in range(2):
        await (await producer.send(Partition(topic, index), records(b"x", b"y")))
    await producer.stop()
    reader = broker.reader()
    await reader.start()
    places = [Partition(topic, 0), Partition(topic, 1)]
    reader.assign(dict.fromkeys(places, 0))
    await until(lambda: len(reader._fetcher._records) == 2)
    kept = next(iter(unread for tp, unread in reader._fetcher._records.items() if tp.partition == 1))
    (first,) = await reader.poll(timeout_ms=5_000, records_max=10, partitions=[places[0]])
    assert places[0] == first.partition
    assert kept in reader._fetcher._records.values()
    (second,) = await reader.poll(timeout_ms=5_000, records_max=10, partitions=[places[1]])
    assert (places[1], 2) == (second.partition, len(second))
    await reader.stop()


async def test_a_seek_out_of_range_names_both_ends(broker, make_topic):
    place = Partition(await make_topic(), 0)
    producer = broker.producer()
    await producer.start()
    await (await producer.send(place, records(b"x", b"y")))
    await producer.stop()
    await broker.delete_records({place: 1})
    reader = broker.reader()
    await reader.start()
    for position in (0, 9):
        reader.assign({place: position})
        with pytest.raises(ConfigurationError, match=rf"offset {position} is out of range: .* from 1 to 2"):
            await reader.poll(timeout_ms=10_000, records_max=1)
    reader.assign({place: 1})
    assert [[b"y"]] == [list(fetch.values) for fetch in await reader.poll(timeout_ms=10_000, records_max=1)]
    await reader.stop()


async def test_offsets_by_time(broker, make_topic):
    place = Partition(await make_topic(), 0)
    producer = broker.producer()
    await producer.start()
    values = pa.array([b"a", b"b", b"c"], pa.large_binary())
    times = np.array([1_000, 2_000, 3_000], np.int64) + 1_700_000_000_000
    await (await producer.send(place, Records(None, values, times)))
    await producer.stop()
    reader = broker.reader()
    await reader.start()
    found = [(await reader.offsets_at([place], 1_700_000_000_000 + at))[place] for at in (0, 1_001, 3_000, 3_001)]
    assert [0, 1, 2, 3] == found
    assert {place: 0} == await reader.begin_offsets([place])
    await reader.stop()


async def test_reading_compacted_topics_goes_over_the_gaps(broker, make_topic):
    """Real compaction: the cleaner leaves the newest of each key, and offsets with gaps."""
    config = {
        "min.cleanable.dirty.ratio": "0.001",
        "segment.ms": "100",
        "delete.retention.ms": "100",
        "max.compaction.lag.ms": "100",
    }
    place = Partition(await make_topic(cleanup="compact", config=config), 0)
    producer = broker.producer()
    await producer.start()
    for round_number in range(3):
        keys = pa.array([b"%d" % key for key in range(20)], pa.large_binary())
        values = pa.array([b"%d-%d" % (key, round_number) for key in range(20)], pa.large_binary())
        await (await producer.send(place, Records(keys, values)))
    reader = broker.reader()
    await reader.start()
    latest: dict[bytes | None, bytes | None] = {}
    for fetch in await read_all(reader, {place: 0}):
        latest |= dict(zip(fetch.keys, fetch.values, strict=True))
    end = reader.position(place)
    assert end >= 60
    assert {b"%d" % key: b"%d-2" % key for key in range(20)} == latest
    await producer.stop()
    await reader.stop()


async def _read_for_ever(reader):
    """It may be told first that a partition is out of reach."""
    async with asyncio.timeout(60):
        while True:
            await reader.poll(timeout_ms=10_000, records_max=1)


async def test_a_topic_deleted_under_a_reader_is_said(broker, make_topic):
    """Brokers are not asked for it more than ten times a second."""
    topic = await make_topic()
    reader = broker.reader()
    await reader.start()
    reader.assign({Partition(topic, 0): 0})
    await reader.poll(timeout_ms=10_000, records_max=1)
    await broker.delete_topics([topic])
    with pytest.raises(ConfigurationError, match=r"does not exist \(any more\)"):
        await _read_for_ever(reader)
    await reader.stop()


async def test_timestamps_the_broker_refuses_are_said(broker, make_topic):
    """Kafka takes none more than an hour ahead of its clock, unless the topic says otherwise."""
    producer = broker.producer()
    await producer.start()
    ahead = Records(None, pa.array([b"x"], pa.large_binary()), np.array([1 << 42], np.int64))
    with pytest.raises(ConfigurationError, match=r"message\.timestamp\.after\.max\.ms"):
        await (await producer.send(Partition(await make_topic(), 0), ahead))
    await producer.drop()


async def test_assigning_replaces_what_was_assigned(broker, make_topic):
    topic = await make_topic(partitions=2)
    reader = broker.reader()
    await reader.start()
    with pytest.raises(ConfigurationError, match="is not assigned"):
        reader.position(Partition(topic, 0))
    reader.assign({Partition(topic, 0): 0})
    reader.assign({Partition(topic, 1): 0})
    assert 0 == reader.position(Partition(topic, 1))
    with pytest.raises(ConfigurationError, match="is not assigned"):
        reader.position(Partition(topic, 0))
    reader.assign({})
    assert [] == await reader.poll(timeout_ms=10, records_max=1)
    await reader.stop()
    with pytest.raises(ConfigurationError, match="was stopped"):
        await reader.poll(timeout_ms=10, records_max=1)
