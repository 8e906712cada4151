"""Runs an app's graph with no broker, step by step and in your hands; ships for users' tests and ours.

    driver = Driver(app)
    driver.send("clicks", [{"user": "ada", "price": 1.0, "ts": 0}])
    driver.commit()
    assert driver.rows("totals") == [...]

It keeps the promises of the real thing: topics are logs of encoded records, a row of an output topic is there only after
the commit it belongs to, state survives through changelog and database alone, and `crash()` loses exactly what had not been
committed. There is one task a sub-topology and partition, as in a cluster; repartition topics are real logs between them.
Time stands still until `advance_clock`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import polars as pl

from ..state.checkpoint import write
from ..state.restore import restore
from ..state.store import Changes, Database
from ..state.stores.memory import MemoryDatabase
from ..topics.arrow_buffers import large_binary
from ..topics.batch import Fetch, Headers, Partition, Records
from ..topics.broker import Committed
from ..topics.codec_of import codec_named
from ..topics.key import key_bytes
from ..topics.partitioner import murmur2
from ..topics.topic import Topic
from .app import App, outside_topics
from .calls import make_calls
from .commit import Send
from .errors import PlanError
from .global_rows import GlobalRows
from .instrument import Remembered
from .queries import Read, T
from .task import Task, TaskId, TaskSettings
from .topology import SubTopology, Topology

ROUNDS_MAX = 1_000
"""Passes over all tasks until nothing moves; more means that records go in a circle."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a topic's log."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers = ()


@dataclass(slots=True)
class _Slot:
    """Where a task runs, and what outlives it."""

    sub: SubTopology
    id: TaskId
    database: Database = field(default_factory=MemoryDatabase)
    changelog: dict[str, list[Changes]] = field(default_factory=dict)
    """By store, everything ever written."""
    checkpointed: dict[str, int] = field(default_factory=dict)
    """By store, how many entries of the changelog the database stands for."""
    committed: dict[Partition, Committed] = field(default_factory=dict)
    sends: list[Send] = field(default_factory=list)
    task: Task | None = None


class Driver:
    """`partitions`: by topic, where the declaration does not say (default 1). Raises PlanError."""

    def __init__(
        self, app: App, *, partitions: Mapping[str, int] | None = None, fetch_records_max: int = 10_000
    ) -> None:
        self.app = app
        self.instrument = Remembered()
        self.topology: Topology = app.plan(partitions)
        self.now_ms = 0
        self.fetch_records_max = fetch_records_max
        self._topics = {topic.name: topic for topic in outside_topics(app.graph)}
        self._logs: dict[Partition, list[Record]] = {
            Partition(name, index): []
            for name, count in self.topology.partition_counts.items()
            for index in range(count)
        }
        self._slots = [
            _Slot(sub, TaskId(sub.name, partition)) for sub in self.topology.subs for partition in range(sub.partitions)
        ]
        self.crash()
        app.tables.running[:] = [self]

    def read(self, step: str, read: Read[T]) -> tuple[list[T], list[int]]:
        """For `App.table(name)`: everything is here."""
        tasks = [_task(slot) for slot in self._slots]
        return [read(task.id, task.operators[step]) for task in tasks if step in task.operators], []

    # -- in

    def send(
        self,
        topic: str,
        rows: Sequence[Mapping[str, Any]] | pl.DataFrame,
        *,
        partition: int | None = None,
        timestamp: int = 0,
    ) -> None:
        """Appends rows to a topic, encoded by its codec and partitioned by its key columns (or to `partition`), and works
        them off. Nothing of it is committed yet.
        """
        declared = self._declared(topic)
        frame = rows if isinstance(rows, pl.DataFrame) else _frame(rows, declared)
        values = codec_named(declared.codec).encode(frame).to_pylist()
        keys = key_bytes(frame, declared.key).to_pylist() if declared.key else [None] * len(values)
        records = [Record(key, value, timestamp) for key, value in zip(keys, values, strict=True)]
        self.send_records(topic, records, partition=partition)

    def delete(self, topic: str, rows: Sequence[Mapping[str, Any]], *, timestamp: int = 0) -> None:
        """Appends a tombstone for the key of each row, of which the topic's key columns are enough."""
        declared = self._declared(topic)
        keys = key_bytes(_frame(rows, declared), declared.key).to_pylist()
        self.send_records(topic, [Record(key, None, timestamp) for key in keys])

    def send_records(self, topic: str, records: Iterable[Record], *, partition: int | None = None) -> None:
        """Appends records as they are; those without a key go to partition 0 where none is given."""
        count = self.topology.partition_counts[self._declared(topic).name]
        for record in records:
            index = partition if partition is not None else _partition(record.key, count)
            self._logs[Partition(topic, index)].append(record)
        self.process()

    def _declared(self, topic: str) -> Topic:
        if topic not in self._topics:
            raise PlanError(f"app {self.app.name!r} has no topic {topic!r}; it has {', '.join(sorted(self._topics))}")
        return self._topics[topic]

    # -- time and commits

    def process(self) -> None:
        """Works off what is in the logs; called by `send` and `commit` too."""
        self._read_globals()
        for _ in range(ROUNDS_MAX):
            moved = [self._read(slot) for slot in self._slots]
            if not any(moved):
                return
        raise PlanError(f"records went round for {ROUNDS_MAX} passes; does the app write to a topic it reads?")

    def commit(self) -> None:
        """Commits every task, upstream ones first, until nothing is left to do."""
        for _ in range(ROUNDS_MAX):
            self.process()
            pending = [slot for slot in self._slots if _task(slot).needs_commit()]
            if not pending:
                return
            for slot in pending:
                self._commit(slot)
        raise PlanError(f"commits were needed for {ROUNDS_MAX} passes; does the app write to a topic it reads?")

    def checkpoint(self) -> None:
        """Commits, then writes every task's state to its database, as happens every ten seconds in a worker."""
        self.commit()
        for slot in self._slots:
            write(slot.database, _task(slot).states, {})
            slot.checkpointed = {name: len(changes) for name, changes in slot.changelog.items()}

    def advance_clock(self, milliseconds: int) -> None:
        """The wall clock moves on: partitions that are caught up become idle when it is their time."""
        self.now_ms += milliseconds
        for slot in self._slots:
            _task(slot).tick(self.now_ms)
            self._collect(slot)

    def end(self) -> None:
        """The input has ended: every window closes, every outer join is resolved. Commits."""
        for sub in self.topology.subs:
            self.commit()
            for slot in self._slots:
                if slot.sub.name == sub.name:
                    _task(slot).end()
        self.commit()

    def crash(self) -> None:
        """Every process dies; new ones go on from the last commit."""
        topics = self.topology.graph.globals.items()
        self._globals = {name: GlobalRows(topic, self.instrument) for name, topic in topics}
        self._global_positions: dict[Partition, int] = {}
        self._read_globals()
        for slot in self._slots:
            slot.sends = []
            slot.task = self._restored(slot)

    # -- out

    def records(self, topic: str) -> list[Record]:
        """The committed records of a topic, partition by partition."""
        count = self.topology.partition_counts[topic]
        return [record for index in range(count) for record in self._logs[Partition(topic, index)]]

    def rows(self, topic: str) -> list[dict[str, Any]]:
        """The committed JSON values of a topic, tombstones left out."""
        return [orjson.loads(record.value) for record in self.records(topic) if record.value is not None]

    def table(self, topic: str) -> dict[bytes, dict[str, Any]]:
        """A topic read as upserts: the last value of each key that has no tombstone after it."""
        latest = {record.key: record.value for record in self.records(topic) if record.key is not None}
        return {key: orjson.loads(value) for key, value in latest.items() if value is not None}

    # -- inside

    def _restored(self, slot: _Slot) -> Task:
        settings = TaskSettings(advance_when_idle=self.app.settings.advance_when_idle)
        task = Task(self.topology, slot.sub, slot.id.partition, settings, self.instrument)
        tails = {name: changes[slot.checkpointed.get(name, 0) :] for name, changes in slot.changelog.items()}
        task.bind_globals(self._globals)
        restore(slot.database, task.states, tails)
        task.open({partition: slot.committed.get(partition, Committed(0)) for partition in task.inputs})
        return task

    def _read_globals(self) -> None:
        """Global tables are read to their ends, at once."""
        for partition, log in self._logs.items():
            if partition.topic in self._globals and (position := self._global_positions.get(partition, 0)) < len(log):
                self._globals[partition.topic].take(self._fetch(partition, position, len(log)))
                self._global_positions[partition] = len(log)

    def _read(self, slot: _Slot) -> bool:
        """One fetch of every input; whether anything was there. The input with the oldest record comes first."""
        task = _task(slot)
        inputs = [(partition, item) for partition, item in task.inputs.items() if not task.waits(partition)]
        fetches = [self._fetch(partition, item.position) for partition, item in inputs]
        waiting = sorted((fetch for fetch in fetches if len(fetch)), key=lambda fetch: int(fetch.timestamps[0]))
        task.arrived(waiting)
        for fetch in waiting or fetches:
            task.process(fetch, self.now_ms)
        called = make_calls(task)
        self._collect(slot)
        return bool(waiting) or called

    def _fetch(self, partition: Partition, position: int, records_max: int | None = None) -> Fetch:
        log = self._logs[partition]
        records = log[position : position + (records_max or self.fetch_records_max)]
        return Fetch(
            partition,
            position,
            position + len(records),
            len(log),
            [record.key for record in records],
            [record.value for record in records],
            np.arange(position, position + len(records), dtype=np.int64),
            np.array([record.timestamp for record in records], dtype=np.int64),
            {row: record.headers for row, record in enumerate(records) if record.headers},
        )

    def _collect(self, slot: _Slot) -> None:
        slot.sends += _task(slot).take_sends()

    def _commit(self, slot: _Slot) -> None:
        commit = _task(slot).prepare_commit()
        for send in [*slot.sends, *commit.sends]:
            if send.store is not None:
                slot.changelog.setdefault(send.store, []).append(_changes(send.records))
            else:
                self._logs.setdefault(send.partition, []).extend(_records(send.records))
        slot.sends = []
        slot.committed = dict(commit.positions)


def _task(slot: _Slot) -> Task:
    if slot.task is None:
        raise PlanError(f"task {slot.id} does not run")
    return slot.task


def _partition(key: bytes | None, count: int) -> int:
    return 0 if key is None else (murmur2(key) & 0x7FFFFFFF) % count


def _frame(rows: Sequence[Mapping[str, Any]], topic: Topic) -> pl.DataFrame:
    if topic.schema is None:
        return pl.DataFrame(list(rows))
    return pl.DataFrame(
        [{name: row.get(name) for name in topic.schema.names} for row in rows], schema=topic.schema.polars()
    )


def _changes(records: Records) -> Changes:
    return Changes(records.keys if records.keys is not None else large_binary([None] * len(records)), records.values)


def _records(records: Records) -> list[Record]:
    keys = records.keys.to_pylist() if records.keys is not None else [None] * len(records)
    times = records.timestamps.tolist() if records.timestamps is not None else [0] * len(records)
    headers = records.headers if records.headers is not None else [()] * len(records)
    values = records.values.to_pylist()
    return [Record(*record) for record in zip(keys, values, times, headers, strict=True)]
