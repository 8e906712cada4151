"""Apache Kafka (and what speaks its protocol, such as Redpanda) behind the `Broker` protocol."""

from __future__ import annotations

from .broker import KafkaBroker
from .settings import KafkaSettings

__all__ = ["KafkaBroker", "KafkaSettings"]
