"""What is open while a shard is ours, and how each instruction for it is performed.

    producer          one, transactional under exactly-once
    tasks, databases  one a sub-topology
    outbox            records handed over, and their acknowledgements
    calls             of steps that wait

Work that takes CPU (tasks, databases) is done in worker threads, so that the event loop goes on answering heartbeats; one
instruction at a time. The lock is for others alone, who read a table meanwhile (`queries.py`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from ..state.checkpoint import CheckpointClock, write
from ..state.store import Database
from ..topics.batch import MAX_TIME, Fetch, Partition
from ..topics.broker import Committed, Producer
from . import events as ev
from . import instructions as do
from .calls import outcome_of
from .clock import monotonic_s, wall_ms
from .errors import InvariantError
from .input_wait import TaskInputs
from .known_offsets import KnownOffsets
from .outbox import Outbox
from .pipeline import Waiting
from .recovery import Recovery, input_partitions
from .statistics import ShardStatistics, TaskStatistics
from .surroundings import Surroundings
from .task import Task, TaskId, TaskSettings
from .task_meta import TaskMeta
from .threads import in_executor

Result = TypeVar("Result")

GIVEN_ROWS_MAX = 100_000
"""Rows that a task makes before they are sent, however many come of one batch."""

CLOSE_TIMEOUT_S = 5.0
"""How long letting a producer go may take."""


@dataclass(slots=True)
class ShardRuntime:
    """One shard's open things."""

    number: int
    around: Surroundings
    producer: Producer | None = None
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    databases: dict[TaskId, Database] = field(default_factory=dict)
    outbox: Outbox = field(init=False)
    committed: dict[Partition, Committed] = field(default_factory=dict)
    preparing: dict[Partition, Committed] = field(default_factory=dict)
    changelog_ends: dict[str, int] = field(default_factory=dict)
    prepared_bytes: int = 0
    commit_begun_s: float = 0.0
    checkpoints: CheckpointClock = field(init=False)
    calls: set[asyncio.Task[None]] = field(default_factory=set)
    outcomes: list[tuple[Task, Waiting, object]] = field(default_factory=list)
    recovery: Recovery | None = None
    """While the shard is restored."""
    known: KnownOffsets = field(default_factory=KnownOffsets)
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while a thread works on the tasks, and by those who read a table."""

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.around.dead_letters, self.around.instrument)
        settings = self.around.settings
        self.checkpoints = CheckpointClock(settings.checkpoint_interval_ms, settings.checkpoint_bytes_max)

    async def perform(self, instruction: do.ShardInstruction) -> ev.ShardEvent:
        """Does it, and gives the answer. Raises what went wrong."""
        number, epoch = self.number, instruction.epoch
        match instruction:
            case do.StartProducer():
                await self._start_producer(instruction.delay_ms)
                return ev.ProducerReady(number, epoch)
            case do.ReadPositions():
                await self._read_positions()
                return ev.Positioned(number, epoch)
            case do.Restore():
                await self._restore()
                return ev.Restored(number, epoch)
            case do.Resume():
                self._resume()
                return ev.Resumed(number, epoch, self._inputs_behind())
            case do.Process():
                return await self._process(instruction.fetches, epoch)
            case do.SendOutbox():
                await self._send(instruction.begin)
                return ev.Sent(number, epoch)
            case do.Drop():
                await self._let_go(deliver=False)
                return ev.Dropped(number, epoch)
            case do.Close():
                await self._in_thread(self._write_checkpoint)
                await self._let_go(deliver=True)
                return ev.Dropped(number, epoch)
        return await self._perform_commit(instruction)

    async def _perform_commit(self, instruction: do.ShardInstruction) -> ev.ShardEvent:
        """The steps of a commit, in their order."""
        number, epoch = self.number, instruction.epoch
        match instruction:
            case do.Prepare():
                self.commit_begun_s = monotonic_s()
                return ev.Prepared(number, epoch, await self._in_thread(self._prepare), self._checkpoint_comes())
            case do.AwaitAcknowledgements():
                ahead = await self._meanwhile(instruction, self._await_acknowledgements)
                return ev.Acknowledged(number, epoch, ahead)
            case do.SendOffsets():
                send = partial(self._open_producer().send_offsets, self.around.settings.name, dict(self.preparing))
                return ev.OffsetsSent(number, epoch, await self._meanwhile(instruction, send))
            case do.CommitTransaction():
                return await self._commit(instruction, self._open_producer().commit)
            case do.CommitOffsets():
                return await self._commit(instruction, partial(self.around.consumer.commit, dict(self.preparing)))
            case do.WriteCheckpoint():
                await self._in_thread(self._write_checkpoint)
                return ev.CheckpointWritten(number, epoch)
        raise InvariantError(f"shard {number}: no way to perform {type(instruction).__name__}")

    # -- taking the shard

    async def _start_producer(self, delay_ms: int) -> None:
        if delay_ms:
            await asyncio.sleep(delay_ms / 1000)
        await self._let_go(deliver=False)
        settings = self.around.settings
        identity = f"{settings.name}.{self.number}" if settings.exactly_once else None
        producer = self.around.broker.producer(transactional_id=identity)
        await producer.start()
        self.producer = producer

    async def _read_positions(self) -> None:
        told = await self.around.consumer.committed(input_partitions(self.around.topology, self.number))
        self.known.check(told)
        self.known.add(told)
        self.committed = told

    async def _restore(self) -> None:
        """Build the tasks and bring their states back."""
        await self._in_thread(self._build_tasks)
        self.recovery = recovery = Recovery(self.around, self.number, self.tasks, self._database)
        await self._timed("restore", partial(recovery.states, self._in_restorer))
        self.recovery = None
        self.changelog_ends = recovery.changelog_ends
        starts = await recovery.starts(self.committed)
        await self._in_thread(lambda: recovery.open_tasks(starts))
        self.checkpoints = self.checkpoints.written()

    def _resume(self) -> None:
        """Read on behind what the tasks were given, which may be ahead of what is committed: rows whose calls are under way."""
        for task in self.tasks.values():
            for partition, item in task.inputs.items():
                self.around.consumer.seek(partition, item.position)

    def _build_tasks(self) -> None:
        settings = self.around.settings
        rules = TaskSettings(
            settings.watermark_interval_ms,
            settings.advance_when_idle,
            GIVEN_ROWS_MAX,
            settings.state_dir,
            settings.join_buffer_bytes_max,
        )
        for sub in self.around.topology.tasks_of(self.number):
            task = Task(self.around.topology, sub, self.number, rules, self.around.instrument)
            task.bind_globals(self.around.globals)
            self.tasks[task.id] = task

    # -- working

    async def _process(self, fetches: Sequence[Fetch], epoch: int) -> ev.Processed:
        outcomes, self.outcomes = self.outcomes, []
        now_ms = wall_ms()
        await self._in_thread(lambda: self._work(fetches, outcomes, now_ms))
        self._start_calls(epoch)
        tasks = list(self.tasks.values())
        return ev.Processed(
            self.number,
            epoch,
            len(self.outbox.waiting),
            dirty=any(task.needs_commit() for task in tasks) or bool(self.outbox.waiting),
            finished=self.around.ends is not None and all(_worked_off(task) for task in tasks),
            full=frozenset[Partition]().union(*(task.inputs for task in tasks if task.full)),
            more=any(task.pieces.under_way for task in tasks),
            inputs=self._inputs_behind(),
        )

    def _inputs_behind(self) -> tuple[TaskInputs, ...]:
        several = [(frozenset(task.inputs), task.behind()) for task in self.tasks.values() if len(task.inputs) > 1]
        return tuple(TaskInputs(every, behind) for every, behind in several if behind)

    def _work(self, fetches: Sequence[Fetch], outcomes: Sequence[tuple[Task, Waiting, object]], now_ms: int) -> None:
        for task in self.tasks.values():
            task.arrived(fetches)
            task.pieces.go_on()
        for task, waiting, outcome in outcomes:
            task.finished(waiting, outcome)
        for fetch in sorted(fetches, key=_first_time):
            for task in self.tasks.values():
                if fetch.partition in task.inputs:
                    task.process(fetch, now_ms)
        for task in self.tasks.values():
            if not task.pieces.under_way:
                task.tick(now_ms)
                self._end_if_reached(task)
            self.outbox.add(task.take_sends())

    def _end_if_reached(self, task: Task) -> None:
        """A bounded run: outside inputs are at their end. Repartition topics end by their control records."""
        if self.around.ends is None or task.ended or task.waiting_rows or task.pieces.under_way:
            return
        outside = [item for item in task.inputs.values() if item.time.writers is None]
        if outside and all(item.position >= self.around.ends.get(item.partition, 0) for item in outside):
            task.end(outside_only=True)

    def _start_calls(self, epoch: int) -> None:
        for task in self.tasks.values():
            for waiting in task.startable():
                waiting.started = True
                call = asyncio.ensure_future(self._call(task, waiting, epoch))
                self.calls.add(call)
                call.add_done_callback(self.calls.discard)

    async def _call(self, task: Task, waiting: Waiting, epoch: int) -> None:
        outcome = await outcome_of(waiting.call)  # not within the append: meanwhile `outcomes` may be another list
        self.outcomes.append((task, waiting, outcome))
        self.around.notify(ev.CallsEnded(self.number, epoch))

    # -- committing

    def _prepare(self) -> bool:
        """The tasks' parts of the commit; whether there is anything to commit."""
        dirty = bool(self.outbox.waiting or self.outbox.futures)
        self.preparing, self.prepared_bytes = {}, 0
        for task in self.tasks.values():
            dirty = dirty or task.needs_commit()
            commit = task.prepare_commit()
            self.prepared_bytes += sum(send.records.size_bytes for send in commit.sends if send.store is not None)
            self.outbox.add(commit.sends)
            self.preparing.update(commit.positions)
        return dirty or bool(self.outbox.waiting)

    async def _send(self, begin: bool) -> None:
        producer = self._open_producer()
        if begin:
            await producer.begin()
        await self.outbox.hand_over(producer, wall_ms(), outputs_first=not self.around.settings.exactly_once)

    async def _await_acknowledgements(self) -> None:
        ends = await self._timed("acknowledge", self.outbox.acknowledged)
        self.changelog_ends |= {store: by_partition[self.number] for store, by_partition in ends.items()}

    def _checkpoint_comes(self) -> bool:
        """Whether it will be time for a checkpoint when this commit is through."""
        now_ms = wall_ms()
        return self.checkpoints.committed(now_ms, self.prepared_bytes).due(now_ms)

    async def _commit(self, step: do.CommitStep, ask: Callable[[], Awaitable[None]]) -> ev.CommitDone:
        ahead = await self._meanwhile(step, lambda: self._timed("commit", ask))
        took_s = monotonic_s() - self.commit_begun_s
        self.around.instrument.observe("commit_cycle_seconds", took_s, shard=str(self.number))
        self.committed = dict(self.preparing)
        self.known.add(self.committed)
        self.checkpoints = self.checkpoints.committed(wall_ms(), self.prepared_bytes)
        return ev.CommitDone(self.number, step.epoch, ahead, self.checkpoints.due_at_ms())

    async def _meanwhile(self, step: do.CommitStep, ask: Callable[[], Awaitable[None]]) -> ev.Processed | None:
        """What the broker is asked for, and beside it the next batch. Raises what either raises, the broker's before the other's.

        The batch changes states and the outbox, which the commit has taken its part of already: nothing of it is in this
        transaction.
        """
        if not step.ahead:
            await ask()
            return None
        answer = asyncio.ensure_future(ask())
        try:
            worked = await self._process(step.ahead, step.epoch)
        except asyncio.CancelledError:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
            raise
        except Exception:
            await answer
            raise
        await answer
        return worked

    def _write_checkpoint(self) -> None:
        for task in self.tasks.values():
            if not task.states:
                continue
            meta = TaskMeta(
                {store: end for store, end in self.changelog_ends.items() if store in task.states},
                {store: self.around.topic_ids.get(store, "") for store in task.states},
                {
                    partition: self.committed[partition].offset
                    for partition in task.inputs
                    if partition in self.committed
                },
                {store: self.around.digests[store] for store in task.states},
            )
            write(self._database(task.id), task.states, meta.encoded())
        self.checkpoints = self.checkpoints.written()
        self.around.positions[self.number] = self.position

    @property
    def position(self) -> int:
        """How far the state is that is open here; 0 for a shard without any."""
        return sum(self.changelog_ends.values())

    # -- letting go

    async def _let_go(self, *, deliver: bool) -> None:
        """Producer, calls and tasks; nothing is delivered unless asked for, files stay."""
        for call in list(self.calls):
            call.cancel()
        self.outcomes = []
        self.outbox.clear()
        producer, self.producer = self.producer, None
        if producer is not None:
            await asyncio.wait_for(producer.stop() if deliver else producer.drop(), CLOSE_TIMEOUT_S)
        tasks, self.tasks = self.tasks, {}
        databases, self.databases = self.databases, {}
        for task in tasks.values():
            task.close()
        for database in databases.values():
            await self._in_thread(database.close)
        self.preparing, self.changelog_ends = {}, {}
        self.recovery = None

    # -- helpers

    def _database(self, task: TaskId) -> Database:
        """Opened at the first use, closed when the shard is let go."""
        if task not in self.databases:
            self.databases[task] = self.around.databases.open(f"{task.sub}/{task.partition}")
        return self.databases[task]

    def discard_databases(self) -> None:
        """Files that cannot be read are moved aside; the next restore begins from the changelogs."""
        there = self.around.databases.tasks()
        self.around.positions.pop(self.number, None)
        for task in self.tasks:
            if (database := self.databases.pop(task, None)) is not None:
                database.close()
            if (name := f"{task.sub}/{task.partition}") in there:
                self.around.databases.set_aside(name)

    def _open_producer(self) -> Producer:
        if self.producer is None:
            raise InvariantError(f"shard {self.number} has no producer")
        return self.producer

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        def alone() -> Result:
            with self.lock:
                return work()

        return await in_executor(self.around.executor, alone)

    async def _in_restorer(self, work: Callable[[], Result]) -> Result:
        return await in_executor(self.around.restorer, work)

    async def _timed(self, what: str, ask: Callable[[], Awaitable[Result]]) -> Result:
        begun = monotonic_s()
        result = await ask()
        self.around.instrument.observe(f"{what}_seconds", monotonic_s() - begun, shard=str(self.number))
        return result

    def statistics(self, phase: str) -> ShardStatistics:
        """What the shard is doing now. `phase`: as the coordinator knows it."""
        tasks = list(self.tasks.values())
        told = tuple(TaskStatistics(str(task.id), task.watermark, task.waiting_rows) for task in tasks)
        lag = {partition: item.lag for task in tasks for partition, item in task.inputs.items()}
        restoring = self.recovery.statistics() if self.recovery is not None else ()
        return ShardStatistics(self.number, phase, told, lag, restoring)


def _first_time(fetch: Fetch) -> int:
    return int(fetch.timestamps[0]) if len(fetch) else MAX_TIME


def _worked_off(task: Task) -> bool:
    """Nothing more will come: its own end was reached, or every upstream writer said so."""
    return task.watermark >= MAX_TIME // 2 and not task.waiting_rows
