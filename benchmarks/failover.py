"""How long a shard stands still when its worker dies: `python -m benchmarks.failover [--keys 1000000] [--brokers HOST:PORT]`.

Two workers share counts by user in a one-hour window, so that the state is one entry a key. Each line is one death (`kill -9`):

    restart           the worker is started again at once, on its own folder: its checkpoint and the changelog's tail
    restart, no disk  the same with an empty folder: the whole changelog
    takeover          the other worker takes over when the session has run out, without a copy of the state
    takeover, warm    the same with `standby_replicas: 1`

`stall` is from the kill until all shards work again; of a takeover the session timeout is taken off, as it is a setting, not work.
`restored` is what was read of changelogs, and at what rate. The figures are of this machine and this load; nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from millstream.ops.local_broker import LocalBroker
from millstream.state.directory import StateDirectory
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.kafka.broker import KafkaBroker
from millstream.workers.app import App
from millstream.workers.instrument import Remembered
from millstream.workers.reducers.count import Count
from millstream.workers.windows.tumbling import tumbling
from millstream.workers.worker import Worker

KEYS = 1_000_000
SHARDS = 2
SESSION_MS = 6_000
TELL_S = 0.05
LIMIT_S = 300
CHECKPOINTED_S = 4
"""After the last record: then a checkpoint has been made, as in a run that has lasted."""
CHUNK = 50_000


def counts(app_name: str, member: str, replicas: int) -> App:
    app = App(
        app_name, commit_interval="500ms", checkpoint_interval_ms=1_000, instance_id=member, standby_replicas=replicas
    )
    schema = {"user": "string", "ts": "timestamp_ms"}
    events = app.topic(f"{app_name}.events", schema, key="user", event_time="ts", partitions=SHARDS)
    app.stream(events).window(tumbling("1h"), by="user").agg(n=Count()).to(
        app.topic(f"{app_name}.counts", key="user", partitions=SHARDS)
    )
    return app


class Timed(Remembered):
    """Also how long restores took."""

    def __init__(self) -> None:
        super().__init__()
        self.restore_s = 0.0

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        if name == "restore_seconds":
            self.restore_s = max(self.restore_s, seconds)


async def work(bootstrap: str, app_name: str, member: str, folder: str, replicas: str) -> None:
    """One worker process: tells what it does, a line of JSON whenever that has changed."""
    shared, told = RocksShared(), Timed()
    databases = StateDirectory(Path(folder), app_name, lambda path: RocksDatabase(path, shared))
    broker = KafkaBroker({"bootstrap.servers": bootstrap, "session.timeout.ms": SESSION_MS})
    worker = Worker(counts(app_name, member, int(replicas)), broker, databases=databases, instrument=told)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    running = asyncio.create_task(worker.run())
    before: dict[str, Any] = {}
    while not running.done():
        now = worker.statistics()
        lines = {
            "ready": now.ready and bool(now.shards),
            "shards": sorted(shard.number for shard in now.shards if shard.phase != "closed"),
            "lag": now.lag if told.total("records_in") else -1,
            "behind": sum(copy.records_behind for copy in now.standbys) if now.standbys else -1,
            "restored": int(told.total("restored_records")),
            "restore_s": round(told.restore_s, 3),
        }
        if lines != before:
            print(json.dumps({**lines, "at": time.time()}), flush=True)
        before = lines
        await asyncio.wait([running], timeout=TELL_S)
    await running


@dataclass
class Process:
    """A worker, and the last it told."""

    arguments: list[str]
    popen: asyncio.subprocess.Process | None = None
    last: dict[str, Any] = field(default_factory=dict)
    reading: asyncio.Task[None] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        command = [sys.executable, "-m", "benchmarks.failover", "--worker", *self.arguments]
        self.last = {}
        self.popen = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        self.reading = asyncio.create_task(self._read(self.popen))

    async def _read(self, popen: asyncio.subprocess.Process) -> None:
        assert popen.stdout is not None
        while line := await popen.stdout.readline():
            self.last = json.loads(line)
            self.news.set()

    async def until(self, so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(LIMIT_S):
            while not (self.last and so(self.last)):
                self.news.clear()
                await self.news.wait()
        return self.last

    async def kill(self) -> float:
        """When."""
        assert self.popen is not None
        self.popen.kill()
        await self.popen.wait()
        return time.time()


async def create(bootstrap: str, app_name: str) -> None:
    broker = KafkaBroker({"bootstrap.servers": bootstrap})
    await broker.start()
    await broker.create_topics([TopicSpec(f"{app_name}.{name}", SHARDS) for name in ("events", "counts")])
    await broker.stop()


async def produce(bootstrap: str, app_name: str, keys: int) -> None:
    """One event a key."""
    broker = KafkaBroker({"bootstrap.servers": bootstrap, "compression.type": "lz4"})
    await broker.start()
    producer = broker.producer()
    await producer.start()
    for first in range(0, keys, CHUNK):
        users = pl.Series([f"user-{number:09d}" for number in range(first, min(first + CHUNK, keys))])
        values = ('{"user":"' + users + '","ts":1000}').to_list()
        shard = (first // CHUNK) % SHARDS
        records = Records(
            large_binary([user.encode() for user in users]),
            large_binary([value.encode() for value in values]),
            np.full(len(users), 1_000, np.int64),
        )
        await (await producer.send(Partition(f"{app_name}.events", shard), records))
    await producer.stop()
    await broker.stop()


@dataclass(frozen=True)
class Death:
    """One line of the report."""

    name: str
    stall_s: float
    restored: int
    restore_s: float

    def __str__(self) -> str:
        rate = f"{self.restored / self.restore_s:12,.0f} a second" if self.restored and self.restore_s else ""
        return f"{self.name:18} stall {self.stall_s:6.2f} s   restored {self.restored:10,} records {rate}"


async def deaths(bootstrap: str, app_name: str, keys: int, folder: Path, replicas: int) -> list[Death]:
    """The deaths of one app."""
    await create(bootstrap, app_name)
    one, two = (
        Process([bootstrap, app_name, name, str(folder / app_name / name), str(replicas)]) for name in ("one", "two")
    )
    await one.start()
    await two.start()
    for process in (one, two):
        await process.until(lambda told: told["ready"] and len(told["shards"]) == 1)
    await produce(bootstrap, app_name, keys)
    for process in (one, two):
        await process.until(lambda told: told["lag"] == 0)
    await asyncio.sleep(CHECKPOINTED_S)
    for process in (one, two):
        if replicas:
            await process.until(lambda told: told["behind"] == 0)
    found = []
    if not replicas:
        found.append(await restarted("restart", one))
        one.arguments[3] += "-empty"
        found.append(await restarted("restart, no disk", one))
    before = two.last["restored"]
    killed = await one.kill()
    told = await two.until(lambda told: told["ready"] and len(told["shards"]) == SHARDS)
    stall = told["at"] - killed - SESSION_MS / 1000
    name = "takeover, warm" if replicas else "takeover"
    found.append(Death(name, stall, told["restored"] - before, told["restore_s"]))
    await two.kill()
    return found


async def restarted(name: str, process: Process) -> Death:
    killed = await process.kill()
    await process.start()
    told = await process.until(lambda told: told["ready"] and len(told["shards"]) == 1)
    return Death(name, told["at"] - killed, told["restored"], told["restore_s"])


async def measure(keys: int, brokers: str | None) -> list[Death]:
    """All deaths, each printed as it comes."""
    print(f"{keys:,} keys, {SHARDS} shards, session timeout {SESSION_MS / 1000:.0f} s", flush=True)
    all_found = []
    with tempfile.TemporaryDirectory() as folder:
        for replicas in (0, 1):
            app_name = f"failover-{replicas}-{time.time_ns()}"
            if brokers is not None:
                found = await deaths(brokers, app_name, keys, Path(folder), replicas)
            else:
                with LocalBroker() as broker:
                    found = await deaths(broker.bootstrap, app_name, keys, Path(folder), replicas)
            for death in found:
                print(death, flush=True)
            all_found += found
    return all_found


def results(keys: int = KEYS) -> list[dict[str, Any]]:
    """Rows of `build/bench.json`."""
    return [
        {
            "name": f"failover_{death.name.replace(', ', '_').replace(' ', '_')}_stall",
            "value": round(death.stall_s, 3),
            "unit": "s",
            "better": "lower",
            "target": None,
        }
        for death in asyncio.run(measure(keys, None))
    ]


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if sys.argv[1:2] == ["--worker"]:
        asyncio.run(work(*sys.argv[2:]))
    else:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
        parser.add_argument("--keys", type=int, default=KEYS)
        parser.add_argument("--brokers", help="default: a local broker is started")
        chosen = parser.parse_args()
        asyncio.run(measure(chosen.keys, chosen.brokers))
