"""One process of the crash tests: a worker with its own connection and disk, that can be gone at any step.

What a step is: an instruction of the coordinator, a request at the broker, a use of the disk, a word of the group's; each is
one point before it and one after it. `kill` is `kill -9` there: nothing of the process reaches the broker or the disk any
more, its transaction stays open, its membership runs out, and its tasks are thrown away. `freeze_at` is SIGSTOP: the
instructions wait, the group hears nothing, until `thaw`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from millstream.topics.batch import Partition
from millstream.topics.memory import MemoryBroker
from millstream.topics.memory.consumer import MemoryGroupConsumer
from millstream.topics.memory.faults import When
from millstream.topics.memory.producer import MemoryProducer
from millstream.topics.memory.reader import MemoryReader
from millstream.workers import events as ev
from millstream.workers import instructions as do
from millstream.workers.coordinator import Instruction
from millstream.workers.worker import Worker
from tests.crashes.disks import Disk

Client = TypeVar("Client")

OWNER: contextvars.ContextVar[Process | None] = contextvars.ContextVar("owner", default=None)

NOT_POINTS = frozenset({"fetch"})
"""Requests that change nothing anywhere and are made all the time: a crash there is one at a point beside it."""
READS = frozenset({"the request metadata", "the request list_offsets", "the request offset_fetch"})


WITH_NEXT_BATCH = ", the next batch beside it"
"""What is added to a step of a commit."""


class Killed(BaseException):
    """The process is gone at this point. Not an `Exception`: nobody may handle it."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where a process was: before or after the n-th time of something."""

    process: str
    when: When
    what: str
    nth: int
    changes: int
    """How often this process had changed anything outside itself: a broker, a disk, the group."""

    @property
    def is_of_the_group(self) -> bool:
        """Whether it is about who is a member, and not about a shard, a request or the disk."""
        return self.what.startswith("partitions") or self.what in {"LetRebalance", "RequestRejoin", "Leave"}

    def __str__(self) -> str:
        return f"process {self.process} {self.when} {self.what} #{self.nth}"


class Connection(MemoryBroker):
    """A process's own way to the broker that all share, and every client that was opened by it."""

    def __init__(self, shared: MemoryBroker) -> None:
        self.clock, self.faults, self._cluster = shared.clock, shared.faults, shared._cluster
        self.clients: list[object] = [self]

    def producer(self, *, transactional_id: str | None = None) -> MemoryProducer:
        return self.noted(super().producer(transactional_id=transactional_id))

    def reader(self, **options: Any) -> MemoryReader:
        return self.noted(super().reader(**options))

    def consumer(self, **options: Any) -> MemoryGroupConsumer:
        return self.noted(super().consumer(**options))

    def noted(self, client: Client) -> Client:
        self.clients.append(client)
        return client


class Process:
    """See the top of the file. `killed_at`, `frozen_at`: which of its points, counted from 0."""

    def __init__(
        self,
        name: str,
        machine: str,
        connection: Connection,
        disk: Disk,
        killed_at: int | None = None,
        frozen_at: int | None = None,
    ) -> None:
        self.name = name
        self.machine = machine
        self.connection = connection
        self.disk = disk
        self.killed_at = killed_at
        self.frozen_at = frozen_at
        self.databases = disk.opened_by(self)
        self.dead = False
        self.points: list[Point] = []
        self.running = asyncio.Event()
        """Cleared while frozen."""
        self.running.set()
        self.worker: Worker | None = None
        self._seen: Counter[str] = Counter()
        self._changes = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._main: asyncio.Task[None] | None = None
        connection.faults.observe(self._requested)

    def start(self, worker: Worker, *, until_end: bool = False) -> None:
        context = contextvars.copy_context()
        context.run(OWNER.set, self)
        self.worker = worker
        self._main = asyncio.get_running_loop().create_task(worker.run(until_end=until_end), context=context)

    @property
    def over(self) -> bool:
        return self._main is not None and self._main.done()

    def stop(self) -> None:
        """A graceful stop; nothing where the process is gone already."""
        if self.worker is not None and not self.dead and not self.over:
            try:
                self.worker.stop()
            except Killed:
                return

    async def ended(self) -> None:
        """Until nothing of it runs any more. Raises what the worker ended with, unless it was killed."""
        while left := [task for task in self._tasks if not task.done()]:
            await asyncio.wait(left if self.dead else [self._main] if self._main else left)
            if not self.dead:
                break
        if self._main is not None and not self.dead:
            await self._main

    def own(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- points

    def reached(self, what: str, when: When) -> None:
        """Raises Killed where the process is, or is to be, gone."""
        if self.dead:
            raise Killed
        self._seen[what] += when == "before"
        self._changes += when == "after" and what not in READS and " of shard " not in what
        self.points.append(Point(self.name, when, what, self._seen[what], self._changes))
        if len(self.points) - 1 == self.killed_at:
            self.kill()
            raise Killed
        if len(self.points) - 1 == self.frozen_at:
            self.freeze()

    def _requested(self, request: str, when: When, client: object) -> None:
        if request not in NOT_POINTS and any(client is one for one in self.connection.clients):
            self.reached(f"the request {request}", when)

    def kill(self) -> None:
        self.dead = True
        self.disk.crash()
        for client in self.connection.clients:
            self.connection.faults.disconnect(client)
        for task in list(self._tasks):
            task.cancel()

    def freeze(self) -> None:
        self.running.clear()
        for client in self.connection.clients:
            if isinstance(client, MemoryGroupConsumer):
                self.connection.faults.disconnect(client)

    @property
    def frozen(self) -> bool:
        return not self.running.is_set()

    def thaw(self) -> None:
        self.running.set()
        for client in self.connection.clients:
            self.connection.faults.reconnect(client)


def owned_tasks(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    """A task factory: every task belongs to the process that made it."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    owner = OWNER.get() if context is None else context.get(OWNER)
    if owner is not None:
        owner.own(task)
    return task


class CrashingWorker(Worker):
    """A worker whose process is told of every step."""

    process: Process

    async def _answer(self, instruction: do.ShardInstruction) -> ev.ShardEvent:
        what = f"{type(instruction).__name__} of shard {instruction.shard}"
        if isinstance(instruction, do.CommitStep) and instruction.ahead:
            what += WITH_NEXT_BATCH
        self.process.reached(what, "before")
        await self.process.running.wait()
        event = await self.performed(instruction)
        self.process.reached(what, "after")
        await self.process.running.wait()
        return event

    async def performed(self, instruction: do.ShardInstruction) -> ev.ShardEvent:
        """For those that do it wrongly."""
        return await super()._answer(instruction)

    def _begin(self, instruction: Instruction) -> None:
        if isinstance(instruction, do.ShardInstruction):
            super()._begin(instruction)
            return
        self.process.reached(type(instruction).__name__, "before")
        super()._begin(instruction)
        self.process.reached(type(instruction).__name__, "after")

    async def revoked(self, partitions: frozenset[Partition]) -> None:
        self.process.reached("partitions revoked", "before")
        await super().revoked(partitions)
        self.process.reached("partitions revoked", "after")

    async def assigned(self, partitions: frozenset[Partition], generation: int) -> None:
        self.process.reached("partitions assigned", "before")
        await super().assigned(partitions, generation)
        self.process.reached("partitions assigned", "after")
