"""The pipeline that is killed, as a process: `python -m tests.scenarios.orders BOOTSTRAP APP GUARANTEE NUMBER FOLDER`.

Orders in; out come each order's amount doubled (one output an input) and the sums by user and window, once a window.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

import polars as pl

from millstream.state.directory import StateDirectory
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.kafka.broker import KafkaBroker
from millstream.workers.app import App
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum
from millstream.workers.windows.tumbling import tumbling
from millstream.workers.worker import Worker

PARTITIONS = 4
USERS = 50
WINDOW_MS = 1_000
STEP_MS = 2
"""Event time between two orders."""
COMMIT_INTERVAL = {"exactly_once": "100ms", "at_least_once": "1s"}


def orders_app(name: str, guarantee: str, instance: str | None = None) -> App:
    """`name` is the prefix of every topic."""
    app = App(
        name,
        guarantee=guarantee,
        commit_interval=COMMIT_INTERVAL[guarantee],
        instance_id=instance,
        checkpoint_interval_ms=500,
    )
    schema = {"id": "int", "user": "string", "amount": "int", "ts": "timestamp_ms"}
    orders = app.topic(f"{name}.orders", schema, key="user", event_time="ts", partitions=PARTITIONS)
    rows = app.stream(orders)
    doubled = rows.with_columns(twice=pl.col("amount") * 2).select("id", "user", "twice")
    doubled.to(app.topic(f"{name}.doubled", key="user", partitions=PARTITIONS))
    sums = rows.window(tumbling(WINDOW_MS), by="user", grace="0s", emit="final").agg(n=Count(), total=Sum("amount"))
    sums.to(app.topic(f"{name}.sums", key="user", partitions=PARTITIONS))
    return app


async def main(bootstrap: str, name: str, guarantee: str, number: str, folder: str) -> None:
    app = orders_app(name, guarantee, f"{name}-{number}")
    shared = RocksShared()
    databases = StateDirectory(Path(folder) / f"worker-{number}", name, lambda path: RocksDatabase(path, shared))
    worker = Worker(app, KafkaBroker({"bootstrap.servers": bootstrap}), databases=databases)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s worker {sys.argv[4]} %(name)s %(message)s")
    asyncio.run(main(*sys.argv[1:]))
