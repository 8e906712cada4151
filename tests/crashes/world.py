"""One run of the crash tests: the broker, the machines, the processes on them, and a scenario that starts and stops them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.memory import MemoryBroker, MemorySettings
from millstream.workers.app import outside_topics
from millstream.workers.startup import outside_specs
from tests.crashes.case import NAME, Case, Outputs, Record
from tests.crashes.disks import Disk, MemoryDisk, RocksDisk
from tests.crashes.process import Connection, CrashingWorker, Killed, Process, owned_tasks
from tests.crashes.virtual_time import LoopClock, run_virtually

PROCESSES_MAX = 12
"""A run that needs more does not come to an end."""

Scenario = Callable[["World"], Awaitable[None]]


@dataclass(frozen=True)
class Faulty:
    """How a run differs from a right one. `kills`, `freezes`: at which point of which process, both counted from the first."""

    kills: Mapping[int, int] = field(default_factory=dict)
    freezes: Mapping[int, int] = field(default_factory=dict)
    worker: type[CrashingWorker] = CrashingWorker
    connection: type[Connection] = Connection
    settings: Mapping[str, object] = field(default_factory=dict)
    prepare: Callable[[MemoryBroker], None] = lambda broker: None
    """Told of the broker before the first process starts."""
    disks: Path | None = None
    """Where RocksDB keeps its files; None: databases in memory."""


class World:
    """See the top of the file."""

    def __init__(self, case: Case, faulty: Faulty) -> None:
        self.case = case
        self.faulty = faulty
        self.broker = MemoryBroker(
            clock=LoopClock(), settings=MemorySettings(session_timeout_ms=400, rebalance_timeout_ms=400)
        )
        self.processes: list[Process] = []
        app = case.app()
        self._read = app.plan().source_topics
        declared = outside_topics(app.graph)
        letters = {topic.dead_letters for topic in declared if topic.dead_letters}
        self._written = sorted({*(topic.name for topic in declared), *letters} - set(case.input))
        self._specs = {spec.name: spec for spec in outside_specs(app)}
        self._disks: dict[str, Disk] = {}

    def process(self, machine: str = "one", *, until_end: bool = False) -> Process:
        """A new process, started. One machine has one disk and one place in the group."""
        if len(self.processes) == PROCESSES_MAX:
            raise AssertionError(f"{PROCESSES_MAX} processes were started and the work is not done")
        number = len(self.processes)
        process = Process(
            f"{number} on {machine}",
            self.faulty.connection(self.broker),
            self._disk(machine),
            self.faulty.kills.get(number),
            self.faulty.freezes.get(number),
        )
        self.processes.append(process)
        app = self.case.app(**{"instance_id": machine, **self.faulty.settings})
        worker = self.faulty.worker(app, process.connection, databases=process.databases, halt_timeout_ms=150)
        worker.process = process
        process.start(worker, until_end=until_end)
        return process

    def _disk(self, machine: str) -> Disk:
        if machine not in self._disks:
            path = self.faulty.disks
            self._disks[machine] = MemoryDisk() if path is None else RocksDisk(path / machine, NAME)
        return self._disks[machine]

    async def until(self, condition: Callable[[], bool]) -> None:
        """By virtual time; the limit only ends a run that hangs."""
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)

    # -- input and output

    async def feed(self) -> None:
        """The whole input, before anything is started."""
        inputs = self.case.input.items()
        await self.broker.create_topics([replace(self._specs[name], partitions=len(parts)) for name, parts in inputs])
        producer = self.broker.producer()
        await producer.start()
        for topic, partitions in self.case.input.items():
            for index, records in enumerate(partitions):
                if records:
                    keys, values = zip(*records, strict=True)
                    await (
                        await producer.send(Partition(topic, index), Records(large_binary(keys), large_binary(values)))
                    )
        await producer.stop()

    def caught_up(self) -> bool:
        """Whether everything that is in the app's inputs now, internal ones included, has been committed as read."""
        cluster = self.broker._cluster
        committed = cluster.offsets_of(NAME).all()
        return all(
            (committed[one].offset if one in committed else 0) >= cluster.log(one).end
            for one in self._partitions(self._read)
        )

    def group_is_empty(self) -> bool:
        """Whether the sessions of all who have gone have run out."""
        return not self.broker._cluster.group(NAME).members

    def _partitions(self, topics: Iterable[str]) -> list[Partition]:
        counts = self.broker._cluster.counts_of(list(topics))
        return [Partition(topic, index) for topic in counts for index in range(counts[topic])]

    def outputs(self) -> Outputs:
        """What a read_committed reader finds in the topics the app writes."""
        return {topic: [self.committed(one) for one in self._partitions([topic])] for topic in self._written}

    def committed(self, partition: Partition) -> list[Record]:
        fetch = self.broker._cluster.log(partition).read(0, 1_000_000, "read_committed")
        return [
            Record(key, value, {name: said or b"" for name, said in fetch.headers.get(row, ())})
            for row, (key, value) in enumerate(zip(fetch.keys, fetch.values, strict=True))
        ]


def run(case: Case, scenario: Scenario, faulty: Faulty | None = None) -> World:
    """One run to its end."""
    world = World(case, faulty or Faulty())

    async def whole() -> None:
        asyncio.get_running_loop().set_task_factory(cast(Any, owned_tasks))
        await world.feed()
        world.faulty.prepare(world.broker)
        await scenario(world)

    run_virtually(whole(), ignored=(Killed,))
    return world


# -- scenarios


async def bounded(world: World) -> None:
    """Works off what is there, and ends; started again as often as it is killed."""
    while True:
        process = world.process(until_end=True)
        await process.ended()
        if not process.dead:
            return


async def stopped(world: World) -> None:
    """Stopped gracefully in the middle; the rest is worked off by the next process."""
    first = world.process()
    await world.until(lambda: first.over or commits(first) >= 2)
    first.stop()
    await first.ended()
    await bounded(world)


async def shared(world: World) -> None:
    """A second worker joins one that is at work, and both go on. Who is left when one is gone takes over what it had."""
    one = world.process("one")
    await world.until(lambda: one.over or commits(one) >= 2)
    two = world.process("two")
    await world.until(lambda: (one.over and two.over) or (world.caught_up() and (two.over or joined(two))))
    for process in (one, two):
        process.stop()
    for process in (one, two):
        await process.ended()
    await world.until(world.group_is_empty)
    await bounded(world)


async def zombie(world: World) -> None:
    """The first one is paused until another has done its work, and then goes on as if nothing had happened."""
    one = world.process("one")
    await world.until(lambda: one.over or one.frozen)
    two = world.process("two")
    await world.until(world.caught_up)
    one.thaw()
    await world.until(lambda: one.over or joined(one))
    for process in (one, two):
        process.stop()
    for process in (one, two):
        await process.ended()
    await world.until(world.group_is_empty)
    await bounded(world)


def commits(process: Process) -> int:
    """Commits that ended well."""
    return sum(point.when == "after" and point.what.startswith("Commit") for point in process.points)


def joined(process: Process) -> bool:
    """Whether it has been given its partitions in the end and has taken them."""
    worker = process.worker
    return worker is not None and worker.ready
