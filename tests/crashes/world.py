"""One run of the crash tests: the broker, the machines, the processes on them, and a scenario that starts and stops them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.control import split_control
from millstream.topics.memory import MemoryBroker, MemorySettings
from millstream.topics.memory.producer import columns_of
from millstream.workers.app import outside_topics
from millstream.workers.naming import changelog_topic
from millstream.workers.startup import outside_specs
from tests.crashes.case import NAME, Case, Outputs, Record
from tests.crashes.disks import Disk, MemoryDisk, RocksDisk
from tests.crashes.process import Connection, CrashingWorker, Killed, Process, owned_tasks
from tests.crashes.virtual_time import LoopClock, run_virtually

PROCESSES_MAX = 12
"""A run that needs more does not come to an end."""

COPYING_S = 2.0
"""More than a second: then a copy is written to the disk."""

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
        self.wrong: list[str] = []
        """What was seen on the way and must never be."""
        self._offsets: dict[Partition, int] = {}
        app = case.app()
        self._read = app.plan().source_topics
        declared = outside_topics(app.graph)
        letters = {topic.dead_letters for topic in declared if topic.dead_letters}
        self._written = sorted({*(topic.name for topic in declared), *letters} - set(case.input))
        self._specs = {spec.name: spec for spec in outside_specs(app)}
        self._disks: dict[str, Disk] = {}
        self.broker.faults.observe(self._watch)

    def _watch(self, request: str, when: str, client: object) -> None:
        """Committed offsets never go back."""
        for partition, committed in self.broker._cluster.offsets_of(NAME).all().items():
            if committed.offset < self._offsets.get(partition, 0):
                self.wrong.append(f"{partition}: committed {committed.offset} after {self._offsets[partition]}")
            self._offsets[partition] = committed.offset

    def process(self, machine: str = "one", *, until_end: bool = False) -> Process:
        """A new process, started. One machine has one disk and one place in the group."""
        if len(self.processes) == PROCESSES_MAX:
            raise AssertionError(f"{PROCESSES_MAX} processes were started and the work is not done")
        number = len(self.processes)
        process = Process(
            f"{number} on {machine}",
            machine,
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

    async def create_inputs(self) -> None:
        inputs = self.case.input.items()
        await self.broker.create_topics([replace(self._specs[name], partitions=len(parts)) for name, parts in inputs])

    async def feed(self, begin: float = 0.0, end: float = 1.0) -> None:
        """The input, or a part of it: of each partition the records from `begin` to `end` of its length. No fault meets it."""
        cluster = self.broker._cluster
        for topic, partitions in self.case.input.items():
            for index, records in enumerate(partitions):
                if part := records[round(begin * len(records)) : round(end * len(records))]:
                    keys, values = (large_binary(column) for column in zip(*part, strict=True))
                    cluster.log(Partition(topic, index)).append(columns_of(Records(keys, values), cluster.clock.now_ms))
        cluster.signal.changed()
        if begin == 0.0:
            self.faulty.prepare(self.broker)

    def caught_up(self) -> bool:
        """Whether all rows that are in the app's inputs now, internal ones included, have been committed as read.

        A control record may be left: a writer that goes on repeats what it had said, and its reader may be through.
        """
        committed = self.broker._cluster.offsets_of(NAME).all()
        return not any(
            self._rows_from(one, committed[one].offset if one in committed else 0)
            for one in self._partitions(self._read)
        )

    def _rows_from(self, partition: Partition, offset: int) -> int:
        log = self.broker._cluster.log(partition)
        return 0 if offset >= log.end else len(split_control(log.read(offset, 1_000_000, "read_committed"))[0])

    def judged(self) -> list[str]:
        """Everything that is wrong, now that it is over."""
        behind = [] if self.caught_up() else ["the committed offsets are not at the end of the input"]
        return [*self.wrong, *behind, *self.other_state(), *self.case.judge(self.outputs())]

    def other_state(self) -> list[str]:
        """Where the last machine's databases are not what the compacted changelogs say (those in memory)."""
        disk = self._disks[self.processes[-1].machine]
        if not isinstance(disk, MemoryDisk):
            return []
        wrong = []
        for task, store, entries in disk.entries():
            changelog = Partition(changelog_topic(NAME, store), int(task.partition("/")[2]))
            log = {record.key: record.value for record in self.committed(changelog)}
            if entries != {key: value for key, value in log.items() if value is not None}:
                wrong.append(f"{task}: store {store} holds something else than {changelog}")
        return wrong

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
        await world.create_inputs()
        await scenario(world)

    run_virtually(whole(), ignored=(Killed,))
    return world


# -- scenarios


async def bounded(world: World) -> None:
    """Works off what is there, and ends; started again as often as it is killed."""
    await world.feed()
    await work_off(world)


async def work_off(world: World) -> None:
    while True:
        process = world.process(until_end=True)
        await process.ended()
        if not process.dead:
            return


async def stopped(world: World) -> None:
    """Stopped gracefully in the middle; the rest is worked off by the next process."""
    await world.feed()
    first = world.process()
    await world.until(lambda: in_the_middle(world, first))
    first.stop()
    await first.ended()
    if not first.dead and not any(point.what.startswith("Drop") for point in first.points):
        world.wrong += world.other_state()
    await work_off(world)


async def shared(world: World) -> None:
    """A second worker joins one that is at work, and both go on. Who is left when one is gone takes over what it had."""
    await world.feed()
    one = world.process("one")
    await world.until(lambda: in_the_middle(world, one))
    two = world.process("two")
    await world.until(lambda: (one.over and two.over) or (world.caught_up() and (two.over or joined(two))))
    await stop_both(world, one, two)


async def warm(world: World) -> None:
    """As `shared`, but that the second half of the input comes when each has had the time to copy the other's state."""
    await world.feed(0.0, 0.5)
    one, two = world.process("one"), world.process("two")
    copied = asyncio.get_running_loop().time() + COPYING_S
    await world.until(lambda: (one.over and two.over) or asyncio.get_running_loop().time() >= copied)
    await world.feed(0.5, 1.0)
    await world.until(lambda: (one.over and two.over) or world.caught_up())
    await stop_both(world, one, two)


async def zombie(world: World) -> None:
    """The first one is paused until another has done its work, and then goes on as if nothing had happened."""
    await world.feed()
    one = world.process("one")
    await world.until(lambda: one.over or one.frozen)
    two = world.process("two")
    await world.until(world.caught_up)
    one.thaw()
    await world.until(lambda: one.over or joined(one))
    await stop_both(world, one, two)


async def stop_both(world: World, *processes: Process) -> None:
    """Gracefully; then whoever comes works off the rest."""
    for process in processes:
        process.stop()
    for process in processes:
        await process.ended()
    await world.until(world.group_is_empty)
    await work_off(world)


def in_the_middle(world: World, process: Process) -> bool:
    """Some is committed; or it is past that: all in one commit, where the input is polled at once, or it is over."""
    return process.over or commits(process) >= 2 or world.caught_up()


def commits(process: Process) -> int:
    """Commits that ended well."""
    return sum(point.when == "after" and point.what.startswith("Commit") for point in process.points)


def joined(process: Process) -> bool:
    """Whether it has been given its partitions in the end and has taken them."""
    worker = process.worker
    return worker is not None and worker.ready
