"""Whether an event costs the same with many keys and with a long history: CPU microseconds an event, and the memory it takes.

    python -m benchmarks.keys [RUNS]        2 by default, of which the cheaper counts; each in a process of its own

Measured is a task by itself, with no broker: from record batches as a broker answers them to record batches as they are sent, with
decoding, the step, its state, the changelog and a commit for each 10,000 events. Not in it: the network, the event loop, the start
of the process, and the database: a checkpoint writes each key that changed since the last one, and is measured by itself.

So that nothing but the number of keys differs, every job does the same for each event, whatever that number is: keys come one
after the other in a scattered order, so the events of one commit all have different ones, and each key has one event a round.
A window holds two rounds and a session two events; a joined row has one partner. First all keys come once, which is not counted.
"""

from __future__ import annotations

import json
import resource
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from millstream.ops.allocator import keep_freed_memory
from millstream.state.checkpoint import write
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.arrow_buffers import series_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import Committed
from millstream.topics.json_text import json_objects
from millstream.topics.kafka.fetch import RecordSet
from millstream.topics.record_batch import record_batches
from millstream.workers.app import App
from millstream.workers.instrument import Silent
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum
from millstream.workers.task import Task, TaskSettings
from millstream.workers.windows.session import session
from millstream.workers.windows.tumbling import tumbling

from .stages import build

KEYS = (10_000, 1_000_000, 10_000_000)
HISTORIES = (100_000, 1_000_000, 5_000_000)
"""Rows an interval join keeps."""
KEPT_ROWS = 1_000_000
"""Where the number of keys is what differs."""
COMMIT_ROWS = 10_000
CHECKPOINT_COMMITS = 50
"""Or fewer, once all keys have changed."""
EVENTS_MIN = 2_000_000
WARM_MIN = 200_000
STRIDE = 7_368_787
"""Has no factor in common with the numbers of keys, so a round is a permutation of them."""

OUT = Path("build/bench.json")

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Piece:
    """The events of one commit by topic, and whether they are counted."""

    frames: dict[str, pl.DataFrame]
    counted: bool


@dataclass(frozen=True)
class Job:
    """`keys` in all, `kept`: rows of history (of an interval join)."""

    name: str
    keys: int
    kept: int = 0

    @property
    def warm(self) -> int:
        """Whole rounds before anything is counted."""
        return self.kept + WARM_MIN if self.kept else -(-max(self.keys, WARM_MIN) // self.keys) * self.keys

    @property
    def counted(self) -> int:
        whole_rounds = self.name in {"tumbling", "session"}
        return max(2 * self.keys, EVENTS_MIN) if whole_rounds else EVENTS_MIN

    @property
    def bounds(self) -> tuple[int, int]:
        """How far back a purchase looks, from and to (ms): the last round of views that is kept, so that one is its user's."""
        return max(self.kept - self.keys * 4 // 3, 0), self.kept

    @property
    def label(self) -> str:
        return f"{self.name} {self.keys:>10,} keys" + (f" {self.kept:>9,} rows kept" if self.kept else "")

    @property
    def id(self) -> str:
        return f"{self.name}_{self.keys}_keys" + (f"_{self.kept}_kept" if self.kept else "")


# -- the jobs


def windowed(job: Job, app: App) -> None:
    app.stream(app.topic("in", **_topic())).window(tumbling(2 * job.keys), by="user").agg(
        n=Count(), total=Sum("price")
    ).to("out")


def sessions(job: Job, app: App) -> None:
    gap = job.keys + job.keys // 2
    app.stream(app.topic("in", **_topic())).window(session(gap), by="user").agg(n=Count(), total=Sum("price")).to("out")


def running(_job: Job, app: App) -> None:
    app.stream(app.topic("in", **_topic())).group_by("user").agg(n=Count(), total=Sum("price")).to("out")


def joined_by_time(job: Job, app: App) -> None:
    left, right = app.stream(app.topic("views", **_topic())), app.stream(app.topic("in", **_topic()))
    nearest, farthest = job.bounds
    left.interval_join(right, on="user", lower=nearest, upper=farthest).to("out")


def looked_up(_job: Job, app: App) -> None:
    schema = {"user": "string", "city": "int"}
    table = app.table(app.topic("users", schema, key="user", cleanup="compact"))
    app.stream(app.topic("in", **_topic())).join(table, on="user").to("out")


def _topic() -> dict[str, Any]:
    schema = {"user": "string", "price": "float", "ts": "timestamp_ms"}
    return {"schema": schema, "key": "user", "event_time": "ts"}


BUILD: dict[str, Callable[[Job, App], None]] = {
    "tumbling": windowed,
    "session": sessions,
    "running_aggregate": running,
    "table_join": looked_up,
    "interval_join": joined_by_time,
    "checkpoint": running,
}


def jobs() -> Iterator[list[Job]]:
    """Those that are compared with each other."""
    for name in ("tumbling", "session", "running_aggregate", "table_join", "checkpoint"):
        yield [Job(name, keys) for keys in KEYS]
    yield [Job("interval_join", keys, KEPT_ROWS) for keys in KEYS]
    yield [Job("interval_join", KEYS[-1], kept) for kept in HISTORIES]


# -- their input


def pieces(job: Job) -> Iterator[Piece]:
    if job.name == "table_join":
        for first in range(0, job.keys, COMMIT_ROWS):
            numbers = np.arange(first, first + COMMIT_ROWS)
            table = pl.DataFrame({"user": _users(numbers, job.keys), "city": numbers % 1_000})
            yield Piece({"users": table}, counted=False)
    for first in range(0, job.warm + job.counted, COMMIT_ROWS):
        numbers = np.arange(first, first + COMMIT_ROWS)
        times = _times(job, numbers)
        frames = _sides(job, numbers) if job.kept else {"in": _events(_users(numbers, job.keys), times)}
        yield Piece(frames, counted=first >= job.warm)


def _sides(job: Job, numbers: Numbers) -> dict[str, pl.DataFrame]:
    """Three events in four are views; a purchase is of the user of a view in the middle of the range it looks through."""
    nearest, farthest = job.bounds
    bought = numbers[numbers % 4 == 3]
    seen = numbers[numbers % 4 < 3]
    sought = np.maximum(bought - (nearest + farthest) // 2, 0)
    return {
        "views": _events(_users(_view(seen), job.keys), seen),
        "in": _events(_users(_view(sought), job.keys), bought),
    }


def _view(numbers: Numbers) -> Numbers:
    """Which view an event is, or the last one before it."""
    return numbers // 4 * 3 + np.minimum(numbers % 4, 2)


def _times(job: Job, numbers: Numbers) -> Numbers:
    """A millisecond an event; for sessions two rounds, then silence for as long."""
    return numbers + numbers // (2 * job.keys) * 2 * job.keys if job.name == "session" else numbers


def _events(users: pl.Series, times: Numbers) -> pl.DataFrame:
    return pl.DataFrame({"user": users, "price": times % 100 / 4.0, "ts": times})


def _users(numbers: Numbers, keys: int) -> pl.Series:
    return pl.select(pl.format("user-{}", pl.Series(numbers * STRIDE % keys))).to_series()


class Wire:
    """Events as a broker answers them: record batches, the offsets of each topic one after the other."""

    def __init__(self) -> None:
        self._offsets: dict[str, int] = {}

    def fetched(self, topic: str, frame: pl.DataFrame) -> RecordSet:
        first = self._offsets.get(topic, 0)
        self._offsets[topic] = end = first + frame.height
        batches, at = [], first
        records = Records(series_binary(frame["user"]), series_binary(json_objects(frame)))
        for batch in record_batches(records, now_ms=0, compression="lz4"):
            batches.append(struct.pack(">q", at) + batch.to_bytes()[8:])
            at += batch.count
        partition, answer = Partition(topic, 0), b"".join(batches)
        return RecordSet(
            partition,
            answer,
            fetch_offset=first,
            end_offset=end,
            aborted=None,
            read_committed=True,
            check_crcs=True,
        )


# -- measuring


def measure(job: Job) -> dict[str, float]:
    """CPU microseconds an event by stage, results an event, and the largest size of this process (MiB)."""
    keep_freed_memory()
    task, wire, spent, events, results = _task(job), Wire(), {"events": 0.0, "commits": 0.0}, 0, 0
    for piece in pieces(job):
        fetched = [wire.fetched(topic, frame) for topic, frame in piece.frames.items()]
        begun = process_time()
        for one in fetched:
            _work(task, one)
        worked = process_time()
        sends = [*task.take_sends(), *task.prepare_commit().sends]
        build(sends)
        ended = process_time()
        if piece.counted:
            events += sum(frame.height for frame in piece.frames.values())
            results += sum(len(send.records) for send in sends if send.partition.topic == "out")
            spent["events"] += worked - begun
            spent["commits"] += ended - worked
    told = {stage: seconds / events * 1e6 for stage, seconds in spent.items()}
    return {**told, "all": sum(told.values()), "results": results / events, "peak_mib": _peak_mib()}


def measure_checkpoints(job: Job) -> dict[str, float]:
    """CPU microseconds for each key written to the database, what RocksDB does behind it included."""
    keep_freed_memory()
    task, wire, spent, keys = _task(job), Wire(), 0.0, 0
    every = min(CHECKPOINT_COMMITS, job.keys // COMMIT_ROWS)
    with tempfile.TemporaryDirectory() as folder:
        database = RocksDatabase(Path(folder), RocksShared())
        for number, piece in enumerate(pieces(job), 1):
            _work(task, wire.fetched("in", piece.frames["in"]))
            task.take_sends()
            task.prepare_commit()
            if number % every == 0:
                begun = process_time()
                write(database, task.states, {})
                if piece.counted:
                    spent += process_time() - begun
                    keys += every * COMMIT_ROWS
        begun = process_time()
        database.close()  # waits for what is still written
        spent += process_time() - begun
    return {"all": spent / keys * 1e6, "peak_mib": _peak_mib()}


def _work(task: Task, fetched: RecordSet) -> None:
    while not fetched.exhausted:
        task.process(fetched.take(records_max=COMMIT_ROWS, bytes_max=1 << 26), 0)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _task(job: Job) -> Task:
    app = App("keys")
    BUILD[job.name](job, app)
    topology = app.plan(dict.fromkeys(app.plan().source_topics, 1) | {"out": 1})
    task = Task(topology, topology.subs[0], 0, TaskSettings(), Silent())
    for state in task.states.values():
        state.restore((), ())
    task.open({partition: Committed(0) for partition in task.inputs})
    return task


def best_of(job: Job, runs: int) -> dict[str, float]:
    told = [_in_a_process(job) for _ in range(runs)]
    return min(told, key=lambda one: one["all"])


def _in_a_process(job: Job) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.keys", "measure", job.name, str(job.keys), str(job.kept)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{job.label} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def results(runs: int = 2) -> list[dict[str, Any]]:
    """As they stand under `keys` in `build/bench.json`; printed too."""
    rows: list[dict[str, Any]] = []
    for compared in jobs():
        told = []
        for job in compared:
            told.append(found := best_of(job, runs))
            print(f"{job.label:52} {_line(found)}", flush=True)
            rows.append({"name": job.id, **{stage: round(value, 3) for stage, value in found.items()}})
        ratio = told[-1]["all"] / told[0]["all"]
        differing = "history" if compared[0].keys == compared[-1].keys else "keys"
        print(f"{compared[0].name:52} the largest costs {ratio:.2f} times the smallest", flush=True)
        rows.append({"name": f"{compared[0].name}_{differing}_ratio", "ratio": round(ratio, 3), "ratio_max": 2})
    return rows


def _line(found: dict[str, float]) -> str:
    peak = f"{found['peak_mib']:>6,.0f} MiB peak"
    if "events" not in found:
        return f"{found['all']:6.3f} us CPU/key written  {peak}"
    stages = f"events {found['events']:.3f}  commits {found['commits']:.3f}"
    return f"{found['all']:6.3f} us CPU/event ({stages})  {found['results']:.2f} results/event  {peak}"


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["measure"]:
        job = Job(arguments[1], int(arguments[2]), int(arguments[3]))
        print(json.dumps((measure_checkpoints if job.name == "checkpoint" else measure)(job)))
    else:
        rows = results(int(arguments[0]) if arguments else 2)
        found = json.loads(OUT.read_text()) if OUT.exists() else {}
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps({**found, "keys": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
