"""The pipeline that is killed, as a process: `python -m tests.scenarios.orders JOB NUMBER FOLDER`, the job as JSON.

Orders in. Out come, for each order, how many its user has made and for how much (running aggregates, one output an input),
and the sums by user and window, once a window.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from millstream.state.directory import StateDirectory
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.kafka.broker import KafkaBroker
from millstream.workers.app import App
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum
from millstream.workers.windows.tumbling import tumbling
from millstream.workers.worker import Worker
from tests.scenarios.running_totals import RunningTotals

USERS = 200
WINDOW_MS = 1_000
STEP_MS = 2
"""Event time between two orders."""


@dataclass(frozen=True)
class Job:
    """What all workers of a run are told. `app` is the prefix of every topic."""

    bootstrap: str
    app: str
    guarantee: str = "exactly_once"
    partitions: int = 4
    commit_interval_ms: int = 100
    checkpoint_interval_ms: int = 500
    session_timeout_ms: int = 6_000
    retry_backoff_ms_max: int = 5_000
    delivery_timeout_ms: int = 30_000
    standby_replicas: int = 0

    def text(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    def broker(self) -> KafkaBroker:
        return KafkaBroker(
            {
                "bootstrap.servers": self.bootstrap,
                "session.timeout.ms": self.session_timeout_ms,
                "heartbeat.interval.ms": 500,
                "delivery.timeout.ms": self.delivery_timeout_ms,
            }
        )


def orders_app(job: Job, instance: str | None = None) -> App:
    app = App(
        job.app,
        guarantee=job.guarantee,
        commit_interval=f"{job.commit_interval_ms}ms",
        checkpoint_interval_ms=job.checkpoint_interval_ms,
        retry_backoff_ms_max=job.retry_backoff_ms_max,
        standby_replicas=job.standby_replicas,
        instance_id=instance,
    )
    schema = {"id": "int", "user": "string", "amount": "int", "ts": "timestamp_ms"}
    orders = app.topic(f"{job.app}.orders", schema, key="user", event_time="ts", partitions=job.partitions)
    rows = app.stream(orders)
    totals = rows.then(RunningTotals(), name="totals").select("id", "user", "n", "total")
    totals.to(app.topic(f"{job.app}.totals", key="user", partitions=job.partitions))
    sums = rows.window(tumbling(WINDOW_MS), by="user", grace="0s", emit="final").agg(n=Count(), total=Sum("amount"))
    sums.to(app.topic(f"{job.app}.sums", key="user", partitions=job.partitions))
    return app


def state_directory(job: Job, number: int, folder: Path) -> StateDirectory:
    """Where the worker of this number keeps its state."""
    shared = RocksShared()
    return StateDirectory(folder / f"worker-{number}", job.app, lambda path: RocksDatabase(path, shared))


async def run(job: Job, number: int, folder: Path, broker: KafkaBroker) -> None:
    """A worker until SIGTERM."""
    worker = Worker(orders_app(job, f"{job.app}-{number}"), broker, databases=state_directory(job, number, folder))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()


def main(job_text: str, number: str, folder: str) -> None:
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s worker {number} %(name)s %(message)s")
    job = Job(**orjson.loads(job_text))
    asyncio.run(run(job, int(number), Path(folder), job.broker()))


if __name__ == "__main__":
    main(*sys.argv[1:])
