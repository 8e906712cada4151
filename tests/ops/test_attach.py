"""A Faust worker runs a Millstream app beside its agents, over its own brokers and record models."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faust
import orjson
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from millstream.ops.attach import _connection, attach, topic_of
from millstream.topics.errors import ConfigurationError, SchemaError
from millstream.topics.schema import Schema
from millstream.workers.app import App
from tests.scenarios.judge import Watcher

ROOT = Path(__file__).parents[2]


class Order(faust.Record, serializer="json"):
    user: str
    amount: float
    note: str | None = None


class Nested(faust.Record, serializer="json"):
    order: Order


def faust_app(**options: Any) -> faust.App:
    return faust.App("shop", web_enabled=False, **options)


def test_a_record_model_becomes_a_schema() -> None:
    declared = topic_of(faust_app(topic_partitions=3), "orders", Order, key="user")
    assert declared.schema == Schema.of({"user": "string", "amount": "float", "note": "string"})
    assert (declared.key, declared.partitions) == (("user",), 3)


def test_a_field_that_is_no_column_is_named() -> None:
    with pytest.raises(SchemaError, match=r"Nested\.order"):
        topic_of(faust_app(), "orders", Nested)


def test_brokers_and_credentials_are_the_faust_apps() -> None:
    secured = faust_app(
        broker="kafka://one:9092;kafka://two:9093",
        broker_credentials=faust.SASLCredentials(username="u", password="p", mechanism="SCRAM-SHA-512"),
    )
    assert _connection(secured) == {
        "bootstrap.servers": "one:9092,two:9093",
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": "p",
    }


def test_a_broker_that_is_no_kafka_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is no Kafka"):
        attach(faust_app(broker="memory://"), App("shop"))


@pytest.mark.kafka
def test_results_come_to_the_agents_of_the_same_worker(
    kafka: str, unique: Callable[[str], str], tmp_path: Path
) -> None:
    name = unique("attach")
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.create_topics(
        [NewTopic(f"{name}.{topic}", 1, 1) for topic in ("clicks", "totals", "seen")]
    ).values():
        future.result()
    producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True})
    for ts in (1_000, 2_000, 3_000, 30_000):
        producer.produce(f"{name}.clicks", orjson.dumps({"user": "ada", "ts": ts}), "ada")
    producer.flush()
    environment = {**os.environ, "BOOTSTRAP": kafka, "APP": name, "FOLDER": str(tmp_path)}
    command = [sys.executable, "-m", "tests.ops.faust_shop", "worker", "-l", "info", "--without-web"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        watcher = Watcher(kafka, f"{name}.seen", 1)
        came = watcher.read_until(lambda rows: len(rows) >= 1, 90)
        watcher.close()
        assert came, (tmp_path / "log").read_text()[-4000:]
        assert watcher.rows == [{"user": "ada", "n": 3, "start": 0}]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
