"""Records of five MiB, on a real Kafka: read where the topic takes them, told to the dead letters where ours may not be written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from millstream.topics.kafka.broker import KafkaBroker
from millstream.workers.app import App
from millstream.workers.worker import Worker
from tests.scenarios.judge import Watcher

LARGE = 5 * 1024 * 1024


@pytest.mark.kafka
async def test_a_record_of_five_mib_is_read_and_its_copy_is_a_dead_letter(
    kafka: str, unique: Callable[[str], str]
) -> None:
    """Its length is computed from it; a copy of it is larger than our producer may send, and told by reference."""
    name = unique("large")
    large = NewTopic(f"{name}.in", 1, 1, config={"max.message.bytes": str(8 * 1024 * 1024)})
    others = [NewTopic(f"{name}.{topic}", 1, 1) for topic in ("lengths", "copies", "dead")]
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.create_topics([large, *others]).values():
        future.result()
    sending = {"bootstrap.servers": kafka, "message.max.bytes": 8 * 1024 * 1024, "enable.idempotence": True}
    producer = Producer(sending)  # idempotent: else what is sent again may come behind what was sent later
    for size in (10, LARGE, 20):
        producer.produce(f"{name}.in", orjson.dumps({"text": "x" * size}))
    producer.flush()
    app = App(name)
    texts = app.topic(f"{name}.in", {"text": "string"}, partitions=1, dead_letters=f"{name}.dead")
    rows = app.stream(texts)
    rows.map(lambda row: {"n": len(row["text"])}, schema={"n": "int"}).to(app.topic(f"{name}.lengths", partitions=1))
    rows.to(app.topic(f"{name}.copies", partitions=1))
    async with asyncio.timeout(60):
        await Worker(app, KafkaBroker({"bootstrap.servers": kafka})).run(until_end=True)
    assert [row["n"] for row in read(kafka, f"{name}.lengths", 3)] == [10, LARGE, 20]
    assert [len(row["text"]) for row in read(kafka, f"{name}.copies", 2)] == [10, 20]
    headers = dict(dead_letter_headers(kafka, f"{name}.dead"))
    assert headers["__dead_letter.error"] == b"too_large"
    assert int(headers["__dead_letter.value_bytes"]) > LARGE


def read(kafka: str, topic: str, count: int) -> list[dict[str, Any]]:
    watcher = Watcher(kafka, topic, 1)
    assert watcher.read_until(lambda rows: len(rows) >= count, 30)
    watcher.close()
    return watcher.rows


def dead_letter_headers(kafka: str, topic: str) -> list[tuple[str, Any]]:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": topic, "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    (message,) = consumer.consume(1, 30)
    consumer.close()
    return [(str(name), value) for name, value in cast(list[tuple[str, Any]], message.headers() or [])]
