"""Offsets of a group in which nobody is: committed by a transaction, the only way that needs no membership."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..topics.batch import Partition
from ..topics.broker import Committed

if TYPE_CHECKING:
    from ..topics.broker import Broker


async def commit_offsets(broker: Broker, group: str, offsets: Mapping[Partition, Committed]) -> None:
    """All of them or none, to be seen by everybody when this returns. Raises TopicsError.

    A commit is answered before its offsets can be read; a producer of the same id is let in only after they can.
    """
    producer = broker.producer(transactional_id=f"{group}.offsets")
    await producer.start()
    try:
        await producer.begin()
        await producer.send_offsets(group, dict(offsets))
        await producer.commit()
    finally:
        await producer.stop()
    after = broker.producer(transactional_id=f"{group}.offsets")
    await after.start()
    await after.stop()
