"""Workers that are wrong on purpose: `python -m tests.scenarios.wrong FAULT JOB NUMBER FOLDER`.

Negative controls: each takes one guard away, and the judge must notice. A harness that cannot fail proves nothing. The
product has no such switches; what is replaced here is replaced in this process only.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import orjson
from aiokafka.structs import TopicPartition

from millstream.topics.batch import Partition
from millstream.topics.broker import Committed
from millstream.topics.kafka.broker import KafkaBroker
from millstream.topics.kafka.consumer import KafkaGroupConsumer
from millstream.topics.kafka.producer import KafkaProducer
from millstream.topics.kafka.transactions import NO_MEMBER
from millstream.workers.shard_runtime import ShardRuntime
from tests.scenarios.orders import Job, run

SLOW_COMMIT_S = 0.2
"""How long the wrong state lies on disk before its transaction commits: what a kill has to hit."""


class Unfenced(KafkaBroker):
    """Every producer has an id of its own, and offsets are sent without the member they belong to: nobody is ever fenced."""

    def producer(self, *, transactional_id: str | None = None) -> KafkaProducer:
        own = None if transactional_id is None else f"{transactional_id}.{uuid.uuid4().hex}"
        return KafkaProducer(self._settings, own, lambda group, partitions: NO_MEMBER)


def unfenced(job: Job) -> KafkaBroker:
    return Unfenced(job.broker()._settings)


def state_before_commit(job: Job) -> KafkaBroker:
    """The store gets what the transaction will commit, before it has."""
    acknowledged: Callable[[ShardRuntime], Awaitable[None]] = ShardRuntime._await_acknowledgements

    async def await_acknowledgements(runtime: ShardRuntime) -> None:
        await acknowledged(runtime)
        await runtime._in_thread(runtime._write_checkpoint)
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=SLOW_COMMIT_S)

    ShardRuntime._await_acknowledgements = await_acknowledgements  # type: ignore[assignment,method-assign]
    return job.broker()


def stock_committed(job: Job) -> KafkaBroker:
    """The client package's own way of reading committed offsets, which takes "I am loading" for "there are none"."""

    async def committed(consumer: KafkaGroupConsumer, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        asked = [TopicPartition(partition.topic, partition.index) for partition in partitions]
        told = await consumer._joined().fetch_committed_offsets(asked)
        return {
            Partition(partition.topic, partition.partition): Committed(known.offset, known.metadata)
            for partition, known in told.items()
        }

    KafkaGroupConsumer.committed = committed  # type: ignore[assignment,method-assign]
    return job.broker()


FAULTS: dict[str, Callable[[Job], KafkaBroker]] = {
    made.__name__: made for made in (unfenced, state_before_commit, stock_committed)
}


def main(fault: str, job_text: str, number: str, folder: str) -> None:
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s worker {number} %(name)s %(message)s")
    job = Job(**orjson.loads(job_text))
    asyncio.run(run(job, int(number), Path(folder), FAULTS[fault](job)))


if __name__ == "__main__":
    main(*sys.argv[1:])
