"""What the tests of the memory broker share: a broker whose time stands still, a member of its group, one transaction."""

from __future__ import annotations

import asyncio

from millstream.topics.batch import Partition
from millstream.topics.broker import Committed, TopicSpec
from millstream.topics.memory import MemoryBroker, MemoryClock
from millstream.topics.memory.consumer import MemoryGroupConsumer
from tests.contracts.broker_tools import Heard, InTurn, records

A, B = Partition("a", 0), Partition("a", 1)


async def standing_broker() -> MemoryBroker:
    """Time stands still at 1,000,000 ms; one topic of two partitions."""
    broker = MemoryBroker(clock=MemoryClock(now_ms=1_000_000))
    await broker.create_topics([TopicSpec("a", 2)])
    return broker


def member(broker: MemoryBroker, heard: Heard, instance: str | None = None, data: bytes = b"") -> MemoryGroupConsumer:
    return broker.consumer(group="g", topics=["a"], assignor=InTurn(data), listener=heard, instance_id=instance)


async def turns(count: int = 50) -> None:
    """Lets everything happen that can happen without time passing."""
    for _ in range(count):
        await asyncio.sleep(0)


async def transaction(broker: MemoryBroker) -> None:
    """One worker's commit; whoever runs it again takes the id over."""
    producer = broker.producer(transactional_id="t")
    await producer.start()
    await producer.begin()
    await producer.send(A, records(b"x"))
    await producer.send(B, records(b"y"))
    await producer.send_offsets("g", {A: Committed(1)})
    await producer.commit()
