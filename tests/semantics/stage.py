"""One small app that all rules of time are shown with: counts by `k` in windows of 10 ms, and tasks run by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from millstream.topics.batch import Fetch, Partition
from millstream.topics.broker import Committed
from millstream.topics.control import ControlRecord, control_header
from millstream.topics.partitioner import murmur2
from millstream.topics.topic import Topic
from millstream.workers.app import App
from millstream.workers.driver import Driver, Record
from millstream.workers.instrument import Remembered
from millstream.workers.reducers.count import Count
from millstream.workers.stream import Stream
from millstream.workers.task import Task, TaskSettings
from millstream.workers.window import Window
from millstream.workers.windows.tumbling import tumbling

SCHEMA = {"k": "string", "g": "string", "x": "int", "at": "timestamp_ms"}
TEN = tumbling("10ms")


def row(at: int, k: str | None = "a", g: str = "b", x: int = 1) -> dict[str, Any]:
    return {"k": k, "g": g, "x": x, "at": at}


def source(app: App, name: str = "in", **options: Any) -> Topic:
    """Rows of `row`, keyed by `k`."""
    return app.topic(name, SCHEMA, **{"key": "k", "event_time": "at", **options})


def counted(stream: Stream, by: str = "k", window: Window = TEN, grace: str = "0ms", emit: str = "final") -> Stream:
    """Counts to the topic `out`, what is late to `late`."""
    windows = stream.window(window, by=by, grace=grace, emit=emit, late_to="late")  # type: ignore[arg-type]
    counts = windows.agg(n=Count())
    counts.to("out")
    return counts


def counts_app(by: str = "k", window: Window = TEN, grace: str = "0ms", **options: Any) -> App:
    """One topic `in`, counted."""
    app = App("rules", watermark_interval_ms=1)
    counted(app.stream(source(app, **options)), by, window, grace)
    return app


def two_inputs_app(settings: Mapping[str, Any] | None = None, **options: Any) -> App:
    """Two topics in one task, counted together."""
    app = App("rules", **(settings or {}))
    one, two = (app.stream(source(app, name, **options)) for name in ("one", "two"))
    counted(one.merge(two))
    return app


def counts(driver: Driver, by: str = "k", topic: str = "out") -> list[tuple[Any, int, int]]:
    """(key, window start, count), sorted."""
    return sorted((one[by], one["window_start"], one["n"]) for one in driver.rows(topic))


def late(driver: Driver) -> list[int]:
    """Times of the rows in the topic `late`, sorted."""
    return sorted(one["at"] for one in driver.rows("late"))


def settled(driver: Driver, milliseconds: int) -> None:
    """The wall clock moves on, and what that changes upstream has arrived downstream."""
    driver.advance_clock(milliseconds)
    for _ in driver.topology.subs:
        driver.commit()
        driver.advance_clock(0)
    driver.commit()


def partition_of(key: str, partitions: int = 2) -> int:
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def key_in(partition: int, partitions: int = 2) -> str:
    """A key of that partition."""
    return next(key for key in map(str, range(100)) if partition_of(key, partitions) == partition)


def fetch(
    topic: str, rows: Sequence[Mapping[str, Any]] = (), first: int = 0, behind: int = 0, partition: int = 0
) -> Fetch:
    """A fetch from offset `first` on, after which so many records are still to be read."""
    after = first + len(rows)
    offsets = np.arange(first, after, dtype=np.int64)
    values = [orjson.dumps(one) for one in rows]
    return Fetch(
        Partition(topic, partition), first, after, after + behind, [None] * len(rows), values, offsets, offsets * 0
    )


def opened(app: App, committed: Mapping[Partition, Committed] | None = None, **settings: Any) -> Task:
    """The task of the first sub-topology, without state, going on from there."""
    topology = app.plan()
    task = Task(topology, topology.subs[0], 0, TaskSettings(**settings), Remembered())
    for state in task.states.values():
        state.restore((), ())
    task.open({partition: Committed(0) for partition in task.inputs} | dict(committed or {}))
    return task


def told(shard: int, watermark: int, *, idle: bool = False) -> Record:
    """A control record of a shard of the sub-topology `0`."""
    return Record(None, b"", 0, control_header(ControlRecord("0", shard, watermark, idle)))
