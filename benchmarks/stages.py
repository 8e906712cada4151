"""Where a job's CPU goes, stage by stage: the same objects as in a worker, one after the other in this thread, with no broker.

    python -m benchmarks.stages [JOB]        tumbling_at_least_once (default), pass_through

Microseconds of CPU an event, all threads of the process counted. What is not here is the network, the event loop and the
start of the process: the difference to what the job costs in all.
"""

from __future__ import annotations

import struct
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from millstream.topics.arrow_buffers import series_binary
from millstream.topics.batch import Fetch, Partition, Records
from millstream.topics.broker import Committed
from millstream.topics.json_text import json_objects
from millstream.topics.kafka.fetch import RecordSet
from millstream.topics.record_batch import record_batches
from millstream.workers.commit import Send
from millstream.workers.instrument import Silent
from millstream.workers.task import Task, TaskSettings

from .clicks import PARTITIONS, Clicks
from .job import app_named

EVENTS = 400_000
FETCH_ROWS = 50_000
COMMIT_FETCHES = 4
"""Fetches between two commits: what a worker reads in a second or less."""


class Clock:
    """CPU seconds by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.process_time()
        yield
        self.seconds[name] += time.process_time() - begun

    def per_event_us(self) -> dict[str, float]:
        return {name: round(seconds / EVENTS * 1e6, 3) for name, seconds in self.seconds.items()}


def wire_bytes(clicks: Clicks) -> bytes:
    """The input as a broker would answer it: lz4 record batches."""
    records = Records(series_binary(clicks.frame["user_id"]), series_binary(json_objects(clicks.frame)))
    batches, offset = [], 0
    for batch in record_batches(records, now_ms=int(time.time() * 1000), compression="lz4"):
        batches.append(struct.pack(">q", offset) + batch.to_bytes()[8:])
        offset += batch.count
    return b"".join(batches)


def fetches_of(buffer: bytes, clock: Clock) -> Iterator[Fetch]:
    unread = RecordSet(
        Partition("clicks", 0),
        buffer,
        fetch_offset=0,
        end_offset=EVENTS,
        aborted=None,
        read_committed=True,
        check_crcs=True,
    )
    while not unread.exhausted:
        with clock.stage("fetch"):
            fetch = unread.take(records_max=FETCH_ROWS, bytes_max=1 << 26)
        yield fetch


def ready_task(job: str) -> Task:
    topology = app_named(job, "out").plan({"clicks": PARTITIONS, "out": PARTITIONS})
    task = Task(topology, topology.subs[0], 0, TaskSettings(), Silent())
    for state in task.states.values():
        state.restore((), ())
    task.open({partition: Committed(0) for partition in task.inputs})
    return task


def measure(job: str) -> dict[str, float]:
    """Microseconds of CPU an event, by stage."""
    clock, task = Clock(), ready_task(job)
    (item,) = task.inputs.values()
    for number, fetch in enumerate(fetches_of(wire_bytes(Clicks.generate(EVENTS)), clock), start=1):
        with clock.stage("decode"):
            batch, _ = item.read(fetch, 0)
        with clock.stage("steps"):
            task.push(item.partition, batch, item.time.watermark)
        with clock.stage("encode"):
            sends = task.take_sends()
        if number % COMMIT_FETCHES == 0:
            with clock.stage("steps"):
                task.pipeline.flush()
            with clock.stage("encode"):
                sends += task.take_sends()
            with clock.stage("changelog"):
                sends += task.take_changelog()
        with clock.stage("record batches"):
            build(sends)
    return clock.per_event_us()


def build(sends: list[Send]) -> None:
    for send in sends:
        for batch in record_batches(send.records, now_ms=1, compression="lz4"):
            batch.to_bytes()


def line(job: str) -> str:
    """One line: every stage and their sum."""
    stages = measure(job)
    told = "  ".join(f"{name} {value:.2f}" for name, value in stages.items())
    return f"{job:26} {told}  together {np.sum(list(stages.values())):.2f} us CPU/event"


if __name__ == "__main__":
    for name in sys.argv[1:] or ["tumbling_at_least_once", "pass_through"]:
        print(line(name), flush=True)
