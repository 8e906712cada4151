"""One measured run, in a process of its own: `python -m benchmarks.job NAME BOOTSTRAP OUTPUT`.

Prints one line of JSON: CPU seconds of the whole process (user and system, start-up included), wall seconds of the run,
peak memory, and how long commits took. The broker's CPU is not in it; `benchmarks/stages.py` says where it goes.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from millstream.ops.allocator import keep_freed_memory
from millstream.state.directory import StateDirectory
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.kafka.broker import KafkaBroker
from millstream.topics.topic import Topic
from millstream.workers.app import App
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum
from millstream.workers.windows.session import session
from millstream.workers.windows.tumbling import tumbling
from millstream.workers.worker import Worker

from .clicks import OUT_OF_ORDER_MS, PARTITIONS, SESSION_GAP_MS, WINDOW_MS
from .clicks import TOPIC as CLICKS
from .visits import PURCHASES, UPPER_MS, VIEWS
from .words import TOPIC as WORDS


def app_named(name: str, output: str) -> App:
    """The jobs by name."""
    guarantee = "exactly_once" if name.endswith("exactly_once") else "at_least_once"
    app = App(f"bench-{output}", guarantee=guarantee, commit_interval="500ms" if "500ms" in name else "1s")
    JOBS.get(name, tumbling_window)(app, output)
    return app


def clicks(app: App) -> Topic:
    schema = {"user_id": "string", "price": "float", "ts": "timestamp_ms"}
    return app.topic(CLICKS, schema, key="user_id", event_time="ts", out_of_order=OUT_OF_ORDER_MS)


def tumbling_window(app: App, output: str) -> None:
    windowed = app.stream(clicks(app)).window(tumbling(WINDOW_MS), by="user_id")
    windowed.agg(n=Count(), total=Sum("price")).to(app.topic(output, key="user_id", partitions=PARTITIONS))


def session_window(app: App, output: str) -> None:
    windowed = app.stream(clicks(app)).window(session(SESSION_GAP_MS), by="user_id", grace="0s", emit="final")
    windowed.agg(n=Count(), total=Sum("price")).to(app.topic(output, key="user_id", partitions=PARTITIONS))


def pass_through(app: App, output: str) -> None:
    app.stream(clicks(app)).to(app.topic(output, key="user_id", partitions=PARTITIONS))


def pass_through_bytes(app: App, output: str) -> None:
    app.records(clicks(app)).to(app.topic(output, codec="raw", partitions=PARTITIONS))


def word_count(app: App, output: str) -> None:
    table = app.stream(app.topic(WORDS, {"word": "string"}, key="word")).group_by("word").agg(n=Count())
    table.to(app.topic(output, key="word", partitions=PARTITIONS, cleanup="compact"))


def interval_join(app: App, output: str) -> None:
    told: Any = {"key": "user_id", "event_time": "ts", "out_of_order": OUT_OF_ORDER_MS}
    views = app.topic(VIEWS, {"user_id": "string", "view_id": "int", "page": "string", "ts": "timestamp_ms"}, **told)
    schema = {"user_id": "string", "order_id": "int", "amount": "float", "ts": "timestamp_ms"}
    purchases = app.stream(app.topic(PURCHASES, schema, **told))
    pairs = app.stream(views).interval_join(purchases, on="user_id", lower=0, upper=UPPER_MS)
    chosen = pairs.select("user_id", "order_id", "view_id", "amount", "page")
    chosen.to(app.topic(output, key="user_id", partitions=PARTITIONS))


JOBS: dict[str, Callable[[App, str], None]] = {
    "pass_through": pass_through,
    "pass_through_bytes": pass_through_bytes,
    "session": session_window,
    "wordcount": word_count,
    "interval_join": interval_join,
}


class Commits:
    """Keeps how long each commit took, from when it was due until it was done."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def count(self, name: str, amount: float = 1, **labels: str) -> None: ...

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        if name == "commit_cycle_seconds":
            self.seconds.append(seconds)

    def percentile_ms(self, percent: int) -> float:
        return round(float(np.percentile(self.seconds, percent)) * 1000, 2)


async def run(name: str, bootstrap: str, output: str, commits: Commits) -> None:
    app = app_named(name, output)
    with tempfile.TemporaryDirectory() as folder:
        shared = RocksShared()
        databases = StateDirectory(Path(folder), app.name, lambda path: RocksDatabase(path, shared))
        broker = KafkaBroker({"bootstrap.servers": bootstrap})
        worker = Worker(app, broker, databases=databases, instrument=commits)
        await worker.run(until_end=True)


def peak_kib() -> int:
    """Of this process alone: `ru_maxrss` would count the parent's pages before exec."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def main(name: str, bootstrap: str, output: str) -> None:
    keep_freed_memory()
    begun = time.perf_counter()
    commits = Commits()
    asyncio.run(run(name, bootstrap, output, commits))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "cpu_s": used.ru_utime + used.ru_stime,
                "wall_s": time.perf_counter() - begun,
                "peak_mib": peak_kib() / 1024,
                "commit_p50_ms": commits.percentile_ms(50),
                "commit_p99_ms": commits.percentile_ms(99),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
