"""Whether memory and disk stay bounded in a long run in which keys are ever new: what is freed is freed.

    python -m benchmarks.ever_new_keys [PERIODS] [ROWS]        60 periods of 20,000 keys by default

Each period has keys that were never there before and never come again, as sessions of web visitors or ids of orders do. Measured is
a task by itself with its RocksDB folder, and a checkpoint a period. Printed are, after each tenth of the run: bytes the states say
they hold, entries in the database, bytes of its folder, and memory of the process. All of them should be level after the first.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from millstream.ops.allocator import keep_freed_memory
from millstream.state.checkpoint import write
from millstream.state.settings import StateSettings
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.batch import BEFORE, MIN_TIME, OFFSET, TIME, Batch, Partition
from millstream.topics.broker import Committed
from millstream.workers.app import App
from millstream.workers.instrument import Silent
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum
from millstream.workers.stream import Stream
from millstream.workers.task import Task, TaskSettings
from millstream.workers.windows.session import session
from millstream.workers.windows.tumbling import tumbling

PERIOD_MS: Final = 1_000
ROWS_A_BATCH_MAX: Final = 10_000
SCHEMA: Final = {"key": "string", "n": "int", "at": "timestamp_ms"}


@dataclass(frozen=True)
class Sample:
    """After a period: bytes of states, entries of all stores, bytes of the folder (without what RocksDB writes for people, of
    which it keeps 2 MiB), bytes of the process."""

    period: int
    state_bytes: int
    entries: int
    disk_bytes: int
    process_bytes: int

    def __str__(self) -> str:
        mib = 1 << 20
        return (
            f"{self.period:>6} {self.state_bytes / mib:>10.2f} {self.entries:>10,} "
            f"{self.disk_bytes / mib:>10.2f} {self.process_bytes / mib:>10.0f}"
        )


def _windows(rows: Stream, _: Stream) -> Stream:
    return rows.window(tumbling("1s"), by="key", grace="100ms", emit="final").agg(n=Count(), total=Sum("n"))


def _sessions(rows: Stream, _: Stream) -> Stream:
    return rows.window(session("300ms"), by="key").agg(n=Count(), total=Sum("n"))


def _interval_join(rows: Stream, others: Stream) -> Stream:
    return rows.interval_join(others, on="key", lower=0, upper="500ms", how="outer")


JOBS: Final[dict[str, Callable[[Stream, Stream], Stream]]] = {
    "windows": _windows,
    "sessions": _sessions,
    "interval join": _interval_join,
    "window join": lambda rows, others: rows.window_join(others, tumbling("1s"), on="key", how="outer"),
    "as-of join, ttl": lambda rows, others: rows.asof_join(others, on="key", ttl="2s"),
    "deduplicate": lambda rows, _: rows.deduplicate(by="key", within="500ms", keep="earliest"),
    "not followed by": lambda rows, others: rows.not_followed_by(others, by="key", within="500ms"),
}


def samples(job: str, periods: int, rows: int, folder: Path, settings: StateSettings | None = None) -> Iterator[Sample]:
    """Runs a job; gives a sample a period."""
    task = _task(job)
    database = RocksDatabase(folder, RocksShared(settings or StateSettings()))
    for period in range(periods):
        for first in range(0, rows, ROWS_A_BATCH_MAX):
            numbers = period * rows + np.arange(first, min(first + ROWS_A_BATCH_MAX, rows))
            _work(task, numbers, PERIOD_MS * numbers // rows)
            task.prepare_commit()
        write(database, task.states, {})
        yield _sample(period + 1, task, database, folder)
    database.close()


def _task(job: str) -> Task:
    app = App("keys")
    rows, others = (
        app.stream(app.topic(name, SCHEMA, key="key", event_time="at", out_of_order="50ms")) for name in ("a", "b")
    )
    JOBS[job](rows, others).to("out")
    others.filter(pl.col("n") < 0).to("nowhere")
    topology = app.plan()
    task = Task(topology, topology.subs[0], 0, TaskSettings(), Silent())
    for state in task.states.values():
        state.restore((), ())
    task.open({partition: Committed(0) for partition in task.inputs})
    return task


def _work(task: Task, numbers: np.ndarray[Any, Any], times: np.ndarray[Any, Any]) -> None:
    """Rows of `a`, of every other one a partner in `b`."""
    for topic, chosen in (("a", slice(None)), ("b", slice(None, None, 2))):
        partition = Partition(topic, 0)
        if partition in task.inputs:
            task.push(partition, _batch(numbers[chosen], times[chosen]), int(times[chosen].max()) - 50)


def _batch(numbers: np.ndarray[Any, Any], times: np.ndarray[Any, Any]) -> Batch:
    columns = {"n": numbers, "at": times, TIME: times, BEFORE: np.full(len(numbers), MIN_TIME), OFFSET: numbers}
    frame = pl.DataFrame({name: pl.Series(name, column, pl.Int64) for name, column in columns.items()})
    key = pl.format("visitor-{}", pl.col("n")).alias("key")
    return Batch(frame.select(key, *columns))


def _sample(period: int, task: Task, database: RocksDatabase, folder: Path) -> Sample:
    held = sum(getattr(state, "size_bytes", 0) for state in task.states.values())
    entries = sum(len(chunk) for name in database.store_names() for chunk in database.store(name).scan())
    disk = sum(map(_file_bytes, (path for path in folder.rglob("*") if not path.name.startswith("LOG"))))
    return Sample(period, held, entries, disk, _process_bytes())


def _file_bytes(path: Path) -> int:
    """0 for a folder, and for a file that RocksDB has deleted meanwhile."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


def _process_bytes() -> int:
    """Linux only; 0 elsewhere."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4_096 if statm.exists() else 0


def main() -> None:
    periods, rows = (int(text) for text in [*sys.argv[1:], "60", "20000"][:2])
    keep_freed_memory()
    for job in JOBS:
        print(f"{job}: {periods * rows:,} keys\nperiod state (MiB)    entries disk (MiB) process (MiB)")
        with tempfile.TemporaryDirectory() as folder:
            for sample in samples(job, periods, rows, Path(folder)):
                if sample.period % max(periods // 10, 1) == 0:
                    print(sample, flush=True)


if __name__ == "__main__":
    main()
