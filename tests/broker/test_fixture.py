"""The fixture `kafka` gives a broker that works."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


@pytest.mark.kafka
async def test_a_record_written_is_read_back(kafka: str, unique: Callable[[str], str]) -> None:
    topic = unique("fixture")
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        await producer.send_and_wait(topic, b"value", key=b"key")
    async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer:
        record = await consumer.getone()
    assert (record.key, record.value) == (b"key", b"value")


def test_unique_names_differ_between_prefixes_and_repeat_within_a_test(unique: Callable[[str], str]) -> None:
    assert unique("a").startswith("a-")
    assert unique("a") == unique("a")
    assert unique("a") != unique("b")
