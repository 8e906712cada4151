"""How long a worker with much state is away after `kill -9`, and how fast it comes back without its disk.

    python -m benchmarks.recovery [KEYS]        1,000,000 by default

Windows of a year over KEYS users, count and sum, exactly-once. Every user gets one event, then the worker is killed and started
again, first on its folder, then without it; all of that is repeated when every user has had four, to see whether the length of the
history matters. Seconds are from the kill to the first new result that a `read_committed` reader sees (and so hold the
start of a Python process); the full restore is what the worker itself says: records and seconds.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from millstream.ops.allocator import keep_freed_memory
from millstream.ops.local_broker import LocalBroker
from millstream.state.directory import StateDirectory
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.arrow_buffers import series_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.kafka.broker import KafkaBroker
from millstream.topics.partitioner import murmur2_partitions
from millstream.workers.app import App
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum
from millstream.workers.windows.tumbling import tumbling
from millstream.workers.worker import Worker

KEYS = 1_000_000
PARTITIONS = 2
BASE_MS = 1_795_543_200_000
CHUNK_ROWS = 100_000
PATIENCE_S = 300
EVENTS, RESULTS = "recovery-events", "recovery-results"


def app() -> App:
    made = App("recovery", commit_interval="500ms", instance_id="recovery-0", checkpoint_interval_ms=3_000)
    events = made.topic(EVENTS, {"user": "string", "price": "float", "ts": "timestamp_ms"}, key="user", event_time="ts")
    totals = made.stream(events).window(tumbling("365d"), by="user").agg(n=Count(), total=Sum("price"))
    totals.to(made.topic(RESULTS, key="user", partitions=PARTITIONS))
    return made


class Printing:
    """Says how long restores took, for the parent to read."""

    def __init__(self) -> None:
        self.restored = 0.0

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        if name == "restored_records":
            self.restored += amount

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        if name == "restore_seconds":
            told = {"shard": labels["shard"], "seconds": seconds, "records": self.restored, "at": time.time()}
            print(json.dumps(told), flush=True)


async def work(bootstrap: str, folder: str) -> None:
    """The child: a worker until it is killed."""
    made, shared = app(), RocksShared()
    databases = StateDirectory(Path(folder), made.name, lambda path: RocksDatabase(path, shared))
    broker = KafkaBroker({"bootstrap.servers": bootstrap})
    await Worker(made, broker, databases=databases, instrument=Printing()).run()


class Play:
    """The parent's side: writes events, starts and kills the worker, waits for results."""

    def __init__(self, broker: KafkaBroker, bootstrap: str, folder: Path) -> None:
        self.broker = broker
        self.command = [sys.executable, "-m", "benchmarks.recovery", "worker", bootstrap, str(folder)]
        self.said = folder.with_name("said")
        self.worker: subprocess.Popen[bytes] | None = None
        self.reader = broker.reader(isolation="read_committed")
        self.written = 0

    async def begin(self) -> None:
        await self.broker.create_topics([TopicSpec(EVENTS, PARTITIONS), TopicSpec(RESULTS, PARTITIONS)])
        await self.reader.start()
        self.reader.assign({Partition(RESULTS, index): 0 for index in range(PARTITIONS)})

    def start(self) -> None:
        with self.said.open("wb") as said:
            self.worker = subprocess.Popen(self.command, stdout=said)

    def kill(self) -> None:
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()

    async def write(self, users: pl.Series) -> None:
        """One event each, in the window that is open."""
        count = len(users)
        times = BASE_MS + self.written + np.arange(count)
        self.written += count
        frame = pl.DataFrame({"user": users, "price": np.ones(count), "ts": times})
        keys, values = (
            series_binary(users),
            series_binary(frame.select(pl.struct(pl.all()).struct.json_encode())["user"]),
        )
        targets, producer = murmur2_partitions(keys, PARTITIONS), self.broker.producer()
        await producer.start()
        for start in range(0, count, CHUNK_ROWS):
            for index in range(PARTITIONS):
                rows = pa.array(np.flatnonzero(targets[start : start + CHUNK_ROWS] == index) + start, pa.int64())
                await (await producer.send(Partition(EVENTS, index), Records(keys.take(rows), values.take(rows))))
        await producer.stop()

    async def results(self, least: int, users: frozenset[bytes] = frozenset()) -> None:
        """Until that many results have come, and one of each of these users."""
        seen, left, until = 0, set(users), time.monotonic() + PATIENCE_S
        while seen < least or left:
            if time.monotonic() > until:
                raise TimeoutError(f"{seen:,} of {least:,} results, {len(left)} users missing")
            for fetch in await self.reader.poll(timeout_ms=50, records_max=50_000):
                seen += len(fetch)
                if left:
                    left.difference_update(fetch.keys)

    async def filled(self, users: pl.Series, times: int) -> None:
        """One event of each user, so many times."""
        for _ in range(times):
            await self.write(users)
            await self.results(len(users))

    async def away_s(self, name: str) -> float:
        """Kills the worker, starts it again; seconds until users that are new then have results."""
        users = [f"{name}-{number}" for number in range(20)]
        self.kill()
        begun = time.monotonic()
        self.start()
        await self.write(pl.Series("user", users))
        await self.results(0, frozenset(user.encode() for user in users))
        return time.monotonic() - begun

    def restores(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.said.read_text().splitlines()]


async def measure(bootstrap: str, folder: Path, keys: int) -> list[dict[str, Any]]:
    broker = KafkaBroker({"bootstrap.servers": bootstrap, "compression.type": "lz4"})
    await broker.start()
    play = Play(broker, bootstrap, folder)
    await play.begin()
    users = pl.Series("user", np.arange(keys)).cast(pl.String)
    rows = []
    try:
        play.start()
        await play.filled(users, 1)
        rows.append(_row("recovery_after_kill_history_1x", await play.away_s("after-1"), "s", target=5.0))
        rows += await _without_disk(play, folder, keys, 1)
        await play.filled(users, 3)
        rows.append(_row("recovery_after_kill_history_4x", await play.away_s("after-4"), "s", target=5.0))
        rows += await _without_disk(play, folder, keys, 4)
    finally:
        play.kill()
        await play.reader.stop()
        await broker.stop()
    return rows


async def _without_disk(play: Play, folder: Path, keys: int, history: int) -> list[dict[str, Any]]:
    """The worker killed and its folder removed. A changelog that was not compacted yet has every update of the history."""
    play.kill()
    shutil.rmtree(folder)
    away_s = await play.away_s(f"without-disk-{history}")
    told = play.restores()
    seconds, records = max(one["seconds"] for one in told), max(one["records"] for one in told)
    target = 500_000 if history == 1 else None
    return [
        _row(f"recovery_without_disk_history_{history}x", away_s, "s"),
        _row(f"full_restore_history_{history}x", keys / seconds, "keys/s", better="higher", target=target),
        _row(f"full_restore_records_history_{history}x", records / seconds, "records/s", better="higher"),
    ]


def _row(name: str, value: float, unit: str, better: str = "lower", target: float | None = None) -> dict[str, Any]:
    return {"name": name, "value": round(value, 3), "unit": unit, "better": better, "target": target}


def results(keys: int = KEYS) -> list[dict[str, Any]]:
    """Rows of `build/bench.json`."""
    with LocalBroker() as broker, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(measure(broker.bootstrap, Path(folder, "state"), keys))


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        keep_freed_memory()
        asyncio.run(work(sys.argv[2], sys.argv[3]))
    else:
        for row in results(*map(int, sys.argv[1:])):
            print(f"{row['name']:36} {row['value']:12,.2f} {row['unit']}")
