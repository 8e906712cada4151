"""Writes questions that are to be asked again into the partition they came from."""

from __future__ import annotations

import pyarrow as pa

from ..topics.batch import Partition, Records
from ..topics.broker import Broker


class AskedAgain:
    """At least once: a question that is asked again twice is answered twice, and published once."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker = broker
        self._topic = topic

    async def send(self, partition: int, key: bytes, value: bytes) -> None:
        """A producer for one record: this is rare, and none is left open. Raises BrokerUnavailableError."""
        record = Records(pa.array([key], pa.large_binary()), pa.array([value], pa.large_binary()))
        producer = self._broker.producer()
        await producer.start()
        try:
            await (await producer.send(Partition(self._topic, partition), record))
        finally:
            await producer.stop()
