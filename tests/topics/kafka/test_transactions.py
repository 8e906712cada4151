"""Transactions on a real Kafka, where they go wrong."""

from __future__ import annotations

import asyncio
import os

import aiokafka.errors as kafka_errors
import pytest

from millstream.topics.batch import Partition
from millstream.topics.broker import Committed
from millstream.topics.errors import (
    AbortableError,
    AmbiguousError,
    ConfigurationError,
    FencedError,
    RecordTooLargeError,
)
from millstream.topics.kafka import KafkaBroker, KafkaSettings
from tests.topics.kafka.conftest import Heard, Spread, records, until, values_of

pytestmark = pytest.mark.kafka


async def test_a_zombie_is_fenced_at_whatever_it_does_next(broker, make_topic, unique):
    """A newer owner's start fences the older one: its commit, its sends, its abort."""
    place = Partition(await make_topic(), 0)
    for step in ("send", "commit", "abort", "offsets"):
        zombie = broker.producer(transactional_id=unique(step))
        await zombie.start()
        await zombie.begin()
        await (await zombie.send(place, records(b"zombie")))
        owner = broker.producer(transactional_id=unique(step))
        await owner.start()
        with pytest.raises(FencedError):
            await next_step(zombie, step, place, unique("group"))
        with pytest.raises(FencedError):  # and it stays so
            await zombie.begin()
        await zombie.drop()
        await owner.begin()
        await owner.send(place, records(step.encode()))
        await owner.commit()
        await owner.stop()
    assert [b"send", b"commit", b"abort", b"offsets"] == await values_of(broker, place)


async def next_step(producer, step, place, group):
    if step == "send":
        await (await producer.send(place, records(b"zombie again")))
    elif step == "offsets":
        await producer.send_offsets(group, {place: Committed(1)})
    else:
        await getattr(producer, step)()


async def test_offsets_are_visible_after_the_next_start(broker, make_topic, unique):
    """Initialise the producer, then read offsets: then what was committed is there, in a hundred of a hundred."""
    place = Partition(await make_topic(), 0)
    for offset in range(1, 20):
        producer = broker.producer(transactional_id=unique("id"))
        await producer.start()
        assert (Committed(offset - 1, "w") if offset > 1 else None) == (await broker.group_offsets(unique("g"))).get(
            place
        )
        await producer.begin()
        await producer.send(place, records(b"x"))
        await producer.send_offsets(unique("g"), {place: Committed(offset, "w")})
        await producer.commit()
        await producer.drop()


async def test_offsets_of_a_generation_that_is_over_are_refused(broker, kafka, make_topic, unique):
    """The second line of defence (KIP-447): the producer is not fenced, yet its group member is a zombie."""
    topic = await make_topic(partitions=1)
    place = Partition(topic, 0)
    heard, consumer = Heard(), None
    consumer = broker.consumer(group=unique("g"), topics=[topic], assignor=Spread(), listener=heard)
    await consumer.start()
    await until(lambda: heard.owned)
    producer = broker.producer(transactional_id=unique("id"))
    await producer.start()
    await producer.begin()
    await producer.send(place, records(b"x"))
    await producer.send_offsets(unique("g"), {place: Committed(1)})
    await producer.commit()
    await producer.begin()
    await producer.send(place, records(b"y"))
    consumer._coordinator.generation -= 1  # as a process that slept through a rebalance believes
    with pytest.raises(FencedError, match="refuses offsets of generation"):
        await producer.send_offsets(unique("g"), {place: Committed(2)})
    with pytest.raises(FencedError):
        await producer.commit()
    consumer._coordinator.generation += 1
    await producer.drop()
    assert {place: Committed(1)} == await consumer.committed([place])
    await consumer.stop()


async def test_a_lost_answer_to_a_commit_is_ambiguous_and_ends_the_producer(broker, make_topic, unique):
    """The connection breaks while EndTxn is under way: never retried, never reused."""
    place = Partition(await make_topic(), 0)
    producer = broker.producer(transactional_id=unique("id"))
    await producer.start()
    await producer.begin()
    await producer.send(place, records(b"x"))
    await producer._sends().acknowledged()
    send = producer._client.send

    async def loses_the_answer(node, request, **given):
        answer = await send(node, request, **given)
        if type(request).__name__ == "EndTxnRequest":
            raise kafka_errors.KafkaConnectionError("reset")
        return answer

    producer._client.send = loses_the_answer
    with pytest.raises(AmbiguousError, match="the answer was lost"):
        await producer.commit()
    with pytest.raises(AmbiguousError):
        await producer.begin()
    await producer.drop()
    assert [b"x"] == await values_of(broker, place)


async def test_without_an_answer_the_deadline_ends_it(kafka, make_topic, unique):
    place = Partition(await make_topic(), 0)
    broker = KafkaBroker(KafkaSettings(kafka, commit_deadline_ms=300))
    producer = broker.producer(transactional_id=unique("id"))
    await producer.start()
    await producer.begin()
    await (await producer.send(place, records(b"x")))
    assert producer._client is not None
    send, silent = producer._client.send, asyncio.Event()

    async def never_answers(node, request, **given):
        if type(request).__name__ == "EndTxnRequest":
            await silent.wait()
        return await send(node, request, **given)

    producer._client.send = never_answers
    with pytest.raises(AmbiguousError, match="no answer in 300 ms"):
        await producer.commit()
    await producer.drop()


async def test_a_commit_fails_when_a_send_nobody_awaited_has_failed(broker, make_topic, unique):
    """The client's own commit succeeds although a batch of the transaction failed."""
    topic = await make_topic(config={"max.message.bytes": "1000"})
    other = Partition(topic, 0)
    producer = broker.producer(transactional_id=unique("id"))
    await producer.start()
    await producer.begin()
    await producer.send(other, records(os.urandom(5_000)))  # fits our limit, not the topic's
    with pytest.raises(AbortableError, match="a send of this transaction failed"):
        await producer.commit()
    await producer.abort()
    with pytest.raises(AmbiguousError, match="gap in the sequence"):
        await producer.begin()
    await producer.drop()
    assert [] == await values_of(broker, other)


async def test_the_broker_s_refusal_of_a_size_is_told(broker, make_topic, unique):
    place = Partition(await make_topic(config={"max.message.bytes": "1000"}), 0)
    producer = broker.producer()
    await producer.start()
    with pytest.raises(RecordTooLargeError):
        await (await producer.send(place, records(os.urandom(5_000))))
    await producer.drop()


async def test_a_record_above_our_own_limit_stops_its_send_before_anything_is_sent(broker, make_topic, unique):
    place = Partition(await make_topic(), 0)
    producer = broker.producer(transactional_id=unique("id"))
    await producer.start()
    await producer.begin()
    with pytest.raises(RecordTooLargeError) as caught:
        await producer.send(place, records(b"a", b"x" * (5 << 20), b"b"))
    assert (1,) == caught.value.rows
    await producer.send(place, records(b"a", b"b"))  # the transaction is none the worse
    await producer.commit()
    await producer.stop()
    assert [b"a", b"b"] == await values_of(broker, place)


async def test_the_order_of_calls_is_checked(broker, make_topic, unique):
    place = Partition(await make_topic(), 0)
    producer = broker.producer(transactional_id=unique("id"))
    with pytest.raises(ConfigurationError, match="is not started"):
        await producer.begin()
    await producer.start()
    with pytest.raises(ConfigurationError, match="begin first"):
        await producer.send(place, records(b"x"))
    await producer.begin()
    with pytest.raises(ConfigurationError, match="a transaction is open"):
        await producer.begin()
    await producer.send_offsets(unique("g"), {place: Committed(1)})
    with pytest.raises(ConfigurationError, match="once a transaction"):
        await producer.send_offsets(unique("g"), {place: Committed(2)})
    await producer.abort()
    await producer.begin()
    with pytest.raises(ConfigurationError, match="does not exist, the topic has 1 partitions"):
        await producer.send(Partition(place.topic, 7), records(b"x"))
    with pytest.raises(ConfigurationError, match="does not exist; create it first"):
        await producer.send(Partition(unique("nowhere"), 0), records(b"x"))
    await producer.stop()


async def test_dropping_delivers_nothing_more_and_the_open_transaction_is_fenced(broker, make_topic, unique):
    place = Partition(await make_topic(), 0)
    producer = broker.producer(transactional_id=unique("id"))
    await producer.start()
    await producer.begin()
    delivery = await producer.send(place, records(b"dropped"))
    await producer.drop()
    await asyncio.wait([delivery])
    assert delivery.cancelled() or delivery.exception() is not None
    with pytest.raises(AmbiguousError):
        await producer.commit()
    await producer.drop()  # twice is fine
    successor = broker.producer(transactional_id=unique("id"))
    await successor.start()
    await successor.begin()
    await successor.send(place, records(b"kept"))
    await successor.commit()
    await successor.stop()
    assert [b"kept"] == await values_of(broker, place)


async def test_dropping_ends_a_commit_that_waits(broker, make_topic, unique):
    """Whoever waits is told at once, not at the deadline."""
    place = Partition(await make_topic(), 0)
    producer = broker.producer(transactional_id=unique("id"))
    await producer.start()
    await producer.begin()
    await (await producer.send(place, records(b"x")))
    send, asked, silent = producer._client.send, asyncio.Event(), asyncio.Event()

    async def never_answers(node, request, **given):
        if type(request).__name__ == "EndTxnRequest":
            asked.set()
            await silent.wait()
        return await send(node, request, **given)

    producer._client.send = never_answers
    committing = asyncio.create_task(producer.commit())
    await asked.wait()
    await producer.drop()
    with pytest.raises(AmbiguousError, match="closed"):
        await committing


async def test_dropping_right_after_the_start(broker, unique):
    producer = broker.producer(transactional_id=unique("id"))
    await producer.start()
    await producer.drop()


async def test_stopping_aborts_what_is_open_and_delivers_what_is_queued(broker, make_topic, unique):
    topic = await make_topic(partitions=2)
    transactional = broker.producer(transactional_id=unique("id"))
    await transactional.start()
    await transactional.begin()
    await transactional.send(Partition(topic, 0), records(b"aborted"))
    await transactional.stop()
    plain = broker.producer()
    await plain.start()
    await plain.send(Partition(topic, 1), records(b"delivered"))
    await plain.stop()
    assert [] == await values_of(broker, Partition(topic, 0))
    assert [b"delivered"] == await values_of(broker, Partition(topic, 1))
