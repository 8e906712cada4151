"""What the broker tests say to Kafka, in plain calls: write, read, create, allow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from millstream.ops.local_broker.inspect import client_arguments

ANSWER_TIMEOUT_S = 40
REQUEST_TIMEOUT_MS = 5000


def write(
    bootstrap: str,
    topic: str,
    values: list[bytes],
    security: Mapping[str, str] | None = None,
    *,
    idempotent: bool = True,
) -> None:
    """Writes the values to partition 0 and returns when all in-sync nodes have them.

    The request timeout is short, since a node that stands still keeps its connections.
    """

    async def send() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=idempotent,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            **client_arguments(security or {}),
        )
        try:
            await producer.start()
            for value in values:
                await producer.send_and_wait(topic, value, partition=0)
        finally:
            await producer.stop()

    asyncio.run(asyncio.wait_for(send(), ANSWER_TIMEOUT_S))


def read(bootstrap: str, topic: str, count: int, security: Mapping[str, str] | None = None) -> list[bytes]:
    """The first `count` values of partition 0."""

    async def fetch() -> list[bytes]:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, **client_arguments(security or {}))
        try:
            await consumer.start()
            partition = TopicPartition(topic, 0)
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            return [(await consumer.getone()).value for _ in range(count)]
        finally:
            await consumer.stop()

    return asyncio.run(asyncio.wait_for(fetch(), ANSWER_TIMEOUT_S))


def create(bootstrap: str, topic: str, *, replicas: int = 1, security: Mapping[str, str] | None = None) -> None:
    """Creates a topic of one partition; raises AssertionError with the broker's error."""

    async def call(admin: Any) -> None:
        answer = await admin.create_topics([NewTopic(topic, 1, replicas)])
        assert [error[1] for error in answer.topic_errors] == [0], answer.topic_errors

    asyncio.run(asyncio.wait_for(_with_admin(bootstrap, security, call), ANSWER_TIMEOUT_S))


def leader(bootstrap: str, topic: str, *, other_than: int = 0) -> int:
    """The node id (from 1) that leads partition 0, once every node has heard of the topic and of the change."""

    async def call(admin: Any) -> int:
        while True:
            (described,) = await admin.describe_topics([topic])
            led_by = [partition["leader"] for partition in described["partitions"]]
            if led_by and led_by[0] not in (-1, other_than):
                return int(led_by[0])

    return int(asyncio.run(asyncio.wait_for(_with_admin(bootstrap, None, call), ANSWER_TIMEOUT_S)))


async def _with_admin(bootstrap: str, security: Mapping[str, str] | None, call: Any) -> Any:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **client_arguments(security or {}))
    try:
        await admin.start()
        return await call(admin)
    finally:
        await admin.close()
