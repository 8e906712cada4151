"""A broker that stops answering, is killed, and comes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from millstream.ops.local_broker import LocalBroker
from millstream.topics.batch import Partition
from millstream.topics.broker import Committed, TopicSpec
from millstream.topics.errors import AmbiguousError, BrokerUnavailableError, TopicsError
from millstream.topics.kafka import KafkaBroker
from tests.topics.kafka.conftest import Heard, Spread, read_all, records, until, values_of

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture(scope="module")
def node() -> Iterator[LocalBroker]:
    """A broker of this file's own: it is killed and paused."""
    with LocalBroker() as made:
        yield made


@pytest.fixture
async def alone(node):
    made = KafkaBroker({"bootstrap.servers": node.bootstrap, "request.timeout.ms": 1_000, "delivery.timeout.ms": 2_000})
    made._settings = made._settings.__class__(
        node.bootstrap, request_timeout_ms=1_000, delivery_timeout_ms=2_000, commit_deadline_ms=1_500
    )
    await made.start()
    yield made
    await made.stop()


async def test_a_commit_that_is_not_answered_is_ambiguous(node, alone, unique):
    place = Partition(unique("t"), 0)
    await alone.create_topics([TopicSpec(place.topic, 1)])
    producer = alone.producer(transactional_id=unique("id"))
    await producer.start()
    await producer.begin()
    await (await producer.send(place, records(b"x")))
    node.pause()
    try:
        with pytest.raises(AmbiguousError):
            await producer.commit()
        await producer.drop()
    finally:
        node.resume()
    successor = alone.producer(transactional_id=unique("id"))
    async with asyncio.timeout(60):
        while True:
            try:
                await successor.start()
            except BrokerUnavailableError:
                continue
            break
    await successor.stop()
    assert await values_of(alone, place) in ([], [b"x"])  # whole or never


async def test_what_needs_an_answer_says_that_there_is_none(node, alone, unique):
    place = Partition(unique("t"), 0)
    await alone.create_topics([TopicSpec(place.topic, 1)])
    reader, producer = alone.reader(), alone.producer()
    await reader.start()
    await producer.start()
    unaware = alone.producer()
    await unaware.start()
    await (await producer.send(place, records(b"w")))
    node.pause()
    try:
        with pytest.raises(BrokerUnavailableError):
            await reader.end_offsets([place])
        with pytest.raises(BrokerUnavailableError, match="not acknowledged in 2000 ms"):
            await (await producer.send(place, records(b"x")))
        with pytest.raises(BrokerUnavailableError, match="no broker answered"):
            await unaware.send(place, records(b"x"))
        with pytest.raises(BrokerUnavailableError):
            await alone.producer(transactional_id=unique("id")).start()
        reader.assign({place: 0})
        assert [] == await reader.poll(timeout_ms=100, records_max=1)
    finally:
        node.resume()
    await reader.stop()
    await unaware.drop()
    await producer.drop()


async def test_a_killed_broker_that_comes_back_goes_on_where_it_was(node, alone, unique, caplog):
    """Reader, group member and producer live through it; the log is lines, not thousands."""
    caplog.set_level(logging.INFO)
    topic = unique("t")
    place = Partition(topic, 0)
    await alone.create_topics([TopicSpec(topic, 1)])
    heard = Heard()
    consumer = alone.consumer(group=unique("g"), topics=[topic], assignor=Spread(), listener=heard, instance_id="a")
    await consumer.start()
    await until(lambda: heard.owned)
    producer = alone.producer(transactional_id=unique("id"))
    await producer.start()
    await producer.begin()
    await (await producer.send(place, records(b"before")))
    await producer.send_offsets(unique("g"), {place: Committed(1, "w")})
    await producer.commit()
    consumer.seek(place, 0)
    fetches = []
    while not any(map(len, fetches)):
        fetches += await consumer.poll(timeout_ms=1_000, records_max=10)
    node.kill()
    assert [] == await consumer.poll(timeout_ms=300, records_max=10)
    await producer.begin()
    with pytest.raises(TopicsError):
        await (await producer.send(place, records(b"lost")))
    await producer.drop()
    node.restart()
    consumer.raise_if_dead()
    assert {place: Committed(1, "w")} == await consumer.committed([place])
    async with asyncio.timeout(60):
        while True:
            try:
                await producer.start()
            except BrokerUnavailableError:
                continue
            break
    await producer.begin()
    await producer.send(place, records(b"after"))
    await producer.commit()
    await producer.stop()
    found = []
    while b"after" not in found:
        await until(lambda: heard.owned)
        try:
            found += [value for fetch in await consumer.poll(timeout_ms=500, records_max=10) for value in fetch.values]
        except TopicsError:
            consumer.raise_if_dead()
            raise
    assert [b"after"] == found
    await consumer.stop()
    reader = alone.reader()
    await reader.start()
    assert [b"before", b"after"] == [v for fetch in await read_all(reader, {place: 0}) for v in fetch.values]
    await reader.stop()
    ours = [record for record in caplog.records if record.name.startswith("aiokafka")]
    assert len(ours) < 60
