"""One measured run, in a process of its own: `python -m benchmarks.job NAME BOOTSTRAP TOPIC OUTPUT EVENTS`.

Prints one line of JSON: CPU seconds of the whole process (user and system, start-up included), wall seconds of the run,
peak memory, and where the CPU went. The broker's CPU is not in it.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from millstream.ops.allocator import keep_freed_memory
from millstream.state.directory import StateDirectory
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.kafka.broker import KafkaBroker
from millstream.workers.app import App
from millstream.workers.instrument import Silent
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum
from millstream.workers.windows.tumbling import tumbling
from millstream.workers.worker import Worker

from .clicks import OUT_OF_ORDER_MS, WINDOW_MS

SCHEMA = {"user_id": "string", "price": "float", "ts": "timestamp_ms"}


def app_named(name: str, topic: str, output: str) -> App:
    """The jobs by name."""
    guarantee = "exactly_once" if name.endswith("exactly_once") else "at_least_once"
    app = App(f"bench-{output}", guarantee=guarantee, commit_interval="1s")
    clicks = app.topic(topic, SCHEMA, key="user_id", event_time="ts", out_of_order=OUT_OF_ORDER_MS)
    if name == "pass_through_bytes":
        app.records(clicks).to(app.topic(output, codec="raw", partitions=2))
        return app
    rows = app.stream(clicks)
    if name == "pass_through":
        rows.to(app.topic(output, key="user_id", partitions=2))
    else:
        totals = rows.window(tumbling(WINDOW_MS), by="user_id").agg(n=Count(), total=Sum("price"))
        totals.to(app.topic(output, key="user_id", partitions=2))
    return app


class Stages(Silent):
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        if name == "stage_cpu_seconds":
            self.seconds[labels["stage"]] += seconds


async def run(name: str, bootstrap: str, topic: str, output: str) -> Stages:
    stages = Stages()
    app = app_named(name, topic, output)
    with tempfile.TemporaryDirectory() as folder:
        shared = RocksShared()
        databases = StateDirectory(Path(folder), app.name, lambda path: RocksDatabase(path, shared))
        worker = Worker(app, KafkaBroker({"bootstrap.servers": bootstrap}), databases=databases, instrument=stages)
        await worker.run(until_end=True)
    return stages


def peak_kib() -> int:
    """Of this process alone: `ru_maxrss` would count the parent's pages before exec."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def main(name: str, bootstrap: str, topic: str, output: str) -> None:
    keep_freed_memory()
    begun = time.perf_counter()
    stages = asyncio.run(run(name, bootstrap, topic, output))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "cpu_s": used.ru_utime + used.ru_stime,
                "wall_s": time.perf_counter() - begun,
                "peak_mib": peak_kib() / 1024,
                "stages_s": dict(stages.seconds),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
