"""The shell: awaits Kafka, calls and timers, tells the coordinator what happened, and does what it says.

One worker is one member of the consumer group. Nothing is decided here; `coordinator.py` and `shard.py` decide. Four
coroutines run: the poll loop, the timer, one for each instruction under way, and one for each call of a waiting step.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from ..state.errors import CorruptStoreError
from ..state.store import Databases
from ..state.stores.memory import MemoryDatabases
from ..topics.batch import Partition
from ..topics.broker import Broker, GroupConsumer
from ..topics.errors import AbortableError, AmbiguousError, BrokerUnavailableError, FencedError
from . import events as ev
from . import instructions as do
from .app import App, outside_topics
from .clock import wall_ms
from .coordinator import Coordinator, Event, Instruction, Life
from .errors import InvariantError, NotHereError
from .fingerprint import fingerprint_of
from .global_tables import GlobalTables
from .instrument import Instrument, Silent
from .lingering import let_go
from .membership import Membership
from .opening import found_state, input_ends
from .phase import Phase
from .poll_order import readable
from .queries import Read, T
from .reading import read_shards
from .settings import AppSettings
from .shard import ShardRules
from .shard_runtime import ShardRuntime
from .standby import Standbys
from .startup import prepare
from .statistics import ShardStatistics, WorkerState, WorkerStatistics
from .surroundings import Surroundings
from .topology import Topology

Result = TypeVar("Result")

log = logging.getLogger("millstream.worker")

TICK_S = 0.02
IDLE_POLL_S = 0.02
"""How long the poll loop waits when no shard wants records."""
THREADS_MAX = 2
"""Worker threads for tasks; polars uses threads of its own beside them."""
RESTORE_THREADS_MAX = 2
"""For restores, in chunks: shards that are restored at the same time take turns, and a long one leaves a thread to the others."""

_RETRIED = (AbortableError, AmbiguousError, BrokerUnavailableError, TimeoutError, ConnectionError)
_STATES: dict[Life, WorkerState] = {
    Life.JOINING: "rebalancing",
    Life.WORKING: "running",
    Life.HALTING: "rebalancing",
    Life.STOPPING: "stopping",
    Life.STOPPED: "stopped",
}


class Worker:
    """Runs an app as one member of its consumer group; `await run()` until `stop()`.

    `databases`: where state is kept; in memory by default (then every start replays the changelogs).
    `halt_timeout_ms`: how long a rebalance waits for open commits, half the broker's rebalance timeout.
    """

    def __init__(
        self,
        app: App,
        broker: Broker,
        *,
        settings: AppSettings | None = None,
        instrument: Instrument | None = None,
        databases: Databases | None = None,
        halt_timeout_ms: int = 5_000,
    ) -> None:
        self.app = app
        self.broker = broker
        self.settings = settings or app.settings
        self.instrument = instrument or Silent()
        self.databases = databases or MemoryDatabases()
        self.coordinator = Coordinator(self._rules())
        self._membership = Membership(self._dispatch, halt_timeout_ms, self.settings.standby_replicas)
        self._runtimes: dict[int, ShardRuntime] = {}
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._around: Surroundings | None = None
        self._stopped = asyncio.Event()
        """Nothing more is to be done; winding up begins."""
        self._over = asyncio.Event()
        """Winding up has ended."""
        self._failure: BaseException | None = None
        self._leaving = self.settings.leave_on_stop
        self._unavailable = False

    def _rules(self) -> ShardRules:
        settings = self.settings
        return ShardRules(
            settings.exactly_once,
            settings.commit_interval_ms,
            retry_backoff_ms=settings.retry_backoff_ms,
            retry_backoff_ms_max=settings.retry_backoff_ms_max,
            wait_for_inputs_ms=settings.wait_for_inputs_ms,
        )

    # -- the public face

    async def run(self, *, until_end: bool = False) -> None:
        """Until `stop()` was called, or with `until_end` until what the topics hold now has been worked off.

        Raises what cannot be mended by trying again: ConfigurationError, PlanError, StateError, UserFunctionError,
        DuplicateMemberError, and BrokerUnavailableError only when the broker was never reached.
        """
        await self.broker.start()
        self.app.tables.running.append(self)
        executor = ThreadPoolExecutor(THREADS_MAX, "millstream")
        restorer = ThreadPoolExecutor(RESTORE_THREADS_MAX, "millstream-restore")
        try:
            topology = await self._patiently(lambda: prepare(self.app, self.broker, self.settings))
            ends = await self._patiently(lambda: input_ends(self.broker, topology)) if until_end else None
            self.coordinator.stop_when_finished = until_end
            self._leaving = self._leaving or until_end
            await self._work(topology, executor, restorer, ends)
        finally:
            self.app.tables.running.remove(self)
            self.databases.close()
            executor.shutdown(wait=True)
            restorer.shutdown(wait=True)
            await let_go(self.app.graph)
            await self.broker.stop()
            self._over.set()
        if self._failure is not None:
            raise self._failure

    def stop(self, *, leave: bool = False) -> None:
        """Finish the open commits and end. To be called on the event loop; twice is fine.

        `leave`: this is no restart; the group is not to keep a static member's place until its session times out.
        """
        self._leaving = self._leaving or leave
        self._dispatch(ev.StopRequested())

    async def wait_stopped(self) -> None:
        """Until everything is closed and the group has been left."""
        await self._over.wait()

    @property
    def ready(self) -> bool:
        return self.statistics().ready

    def read(self, step: str, read: Read[T]) -> tuple[list[T], list[int]]:
        """For `App.table(name)`: the tasks here, and the partitions that are not. Raises NotHereError before there are any."""
        if self._around is None:
            raise NotHereError(f"app {self.settings.name!r} is starting; ask when it is ready")
        return read_shards(self._around.topology, self.coordinator.shards, self._runtimes, step, read)

    def statistics(self) -> WorkerStatistics:
        """What the worker is doing now."""
        state = (
            "starting"
            if self._membership.consumer is None and not self._stopped.is_set()
            else _STATES[self.coordinator.life]
        )
        shards = tuple(self._shard_statistics(number) for number in sorted(self.coordinator.shards))
        standbys = self._membership.standbys.statistics() if self._membership.standbys is not None else ()
        return WorkerStatistics(self.settings.name, state, self.coordinator.generation, shards, standbys)

    def _shard_statistics(self, number: int) -> ShardStatistics:
        phase, runtime = self.coordinator.shards[number].phase.value, self._runtimes.get(number)
        return runtime.statistics(phase) if runtime is not None else ShardStatistics(number, phase, (), {})

    # -- beginning and end

    async def _patiently(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Questions at the start are asked again while the broker is out of reach, for `startup_timeout_ms`."""
        until_ms = wall_ms() + self.settings.startup_timeout_ms
        while True:
            try:
                return await ask()
            except BrokerUnavailableError as error:
                if wall_ms() >= until_ms:
                    raise
                self._told_unavailable(error)
                await asyncio.sleep(self.settings.retry_backoff_ms / 1000)

    async def _work(
        self,
        topology: Topology,
        executor: ThreadPoolExecutor,
        restorer: ThreadPoolExecutor,
        ends: dict[Partition, int] | None,
    ) -> None:
        consumer = self.broker.consumer(
            group=self.settings.name,
            topics=topology.source_topics,
            assignor=self._membership.assignor,
            listener=self,
            instance_id=self.settings.instance_id,
        )
        self._membership.consumer = consumer
        tables = GlobalTables(
            self.broker, list(topology.graph.globals.values()), topology.partition_counts, self.instrument
        )
        around = await self._surroundings(topology, consumer, executor, restorer, ends)
        self._around = around = replace(around, globals=tables.rows)
        self._membership.assignor.positions = self._positions
        loops: list[asyncio.Task[None]] = []
        try:
            await self._patiently(tables.load)
            await consumer.start()
            loops = [
                asyncio.create_task(self._guarded(tables.follow)),
                asyncio.create_task(self._guarded(self._poll_loop)),
                asyncio.create_task(self._guarded(self._tick_loop)),
                asyncio.create_task(self._guarded(self._membership.follow_standbys)),
            ]
            await self._stopped.wait()
        finally:
            await self._wind_up(loops, consumer)
            await tables.stop()

    async def _surroundings(
        self,
        topology: Topology,
        consumer: GroupConsumer,
        executor: ThreadPoolExecutor,
        restorer: ThreadPoolExecutor,
        ends: dict[Partition, int] | None,
    ) -> Surroundings:
        found = await found_state(self.broker, self.databases, topology, restorer)
        dead = {topic.dead_letters for topic in outside_topics(self.app.graph) if topic.dead_letters}
        around = Surroundings(
            topology,
            self.broker,
            consumer,
            self.settings,
            self.databases,
            self.instrument,
            executor,
            restorer,
            found.topic_ids,
            {name: one.digest for name, one in fingerprint_of(topology).items()},
            {name: topology.partition_counts[name] for name in sorted(dead)},
            ends,
            self._dispatch,
            positions=found.positions,
        )
        self._membership.standbys = Standbys(around, found.stores, self._is_free)
        return around

    def _positions(self) -> dict[int, int]:
        """How far our copy of each shard's state is: in memory where it is open, else on disk."""
        on_disk = self._around.positions if self._around is not None else {}
        copied = self._membership.standbys.positions() if self._membership.standbys is not None else {}
        worked = {number: runtime.position for number, runtime in self._runtimes.items() if runtime.position}
        return {**on_disk, **copied, **worked}

    def _is_free(self, shard: int) -> bool:
        """Whether nothing of the shard is open here."""
        known = self.coordinator.shards.get(shard)
        return known is None or known.phase in {Phase.CLOSED, Phase.LOST}

    async def _wind_up(self, loops: Iterable[asyncio.Task[None]], consumer: GroupConsumer) -> None:
        for task in [*loops, *self._under_way.values()]:
            task.cancel()
        await asyncio.gather(*loops, *self._under_way.values(), return_exceptions=True)
        for number, runtime in self._runtimes.items():
            await runtime.perform(do.Drop(number, -1))
        self._membership.let_rebalance()
        if self._failure is None and self._leaving:
            await consumer.leave()
        await consumer.stop()

    async def _guarded(self, loop: Callable[[], Awaitable[None]]) -> None:
        """A loop that dies ends the worker, with its error. (Not begun by the caller: this may be cancelled before it runs.)"""
        try:
            await loop()
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits run()
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._stopped.set()

    # -- the loops

    async def _poll_loop(self) -> None:
        while True:
            wanted = self._membership.partitions
            wanted = readable(self.coordinator.wanted(wanted), self._runtimes, self.settings.max_drift_ms)
            if not wanted:
                await asyncio.sleep(IDLE_POLL_S)
                continue
            try:
                fetches = await self._membership.reading().poll(
                    timeout_ms=self.settings.poll_timeout_ms,
                    records_max=self.settings.poll_records_max,
                    partitions=wanted,
                )
            except BrokerUnavailableError as error:
                self._told_unavailable(error)
                await asyncio.sleep(self.settings.retry_backoff_ms / 1000)
                continue
            if self._unavailable:
                self._unavailable = False
                self.instrument.gauge("broker_unavailable", 0)
            if fetches:
                self._dispatch(ev.Fetched(fetches))

    def _told_unavailable(self, error: BrokerUnavailableError) -> None:
        """One line when it begins, not thousands."""
        self.instrument.gauge("broker_unavailable", 1)
        if not self._unavailable:
            self._unavailable = True
            log.warning("the broker cannot be reached, trying again: %s", error)

    async def _tick_loop(self) -> None:
        while True:
            self._membership.reading().raise_if_dead()
            self._dispatch(ev.Tick(wall_ms()))
            await asyncio.sleep(TICK_S)

    # -- the group's listener

    async def revoked(self, partitions: frozenset[Partition]) -> None:
        await self._membership.revoked(partitions)

    async def assigned(self, partitions: frozenset[Partition], generation: int) -> None:
        await self._membership.assigned(partitions, generation)

    # -- events and instructions

    def _dispatch(self, event: Event) -> None:
        """Tell the coordinator, and begin what it says."""
        try:
            for instruction in self.coordinator.handle(event):
                self._begin(instruction)
        except InvariantError as error:
            self._fail(error)

    def _begin(self, instruction: Instruction) -> None:
        match instruction:
            case do.LetRebalance():
                self._membership.let_rebalance()
            case do.RequestRejoin():
                self._membership.reading().request_rejoin()
            case do.Leave():
                self._stopped.set()
            case do.ShardInstruction():
                before = self._under_way.get(instruction.shard)
                self._under_way[instruction.shard] = asyncio.create_task(self._perform(instruction, before))

    async def _perform(self, instruction: do.ShardInstruction, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done() and before is not asyncio.current_task():
            if isinstance(instruction, do.Drop):
                before.cancel()
            await asyncio.wait([before])
        try:
            event = await self._answer(instruction)
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits run()
            log.error("shard %d: %s: %s", instruction.shard, type(error).__name__, error)
            self._fail(error)
        else:
            self._dispatch(event)

    async def _answer(self, instruction: do.ShardInstruction) -> ev.ShardEvent:
        """The instruction's outcome as an event. Raises what ends the worker."""
        shard, epoch = instruction.shard, instruction.epoch
        if self._around is None:
            raise InvariantError("an instruction came before the worker was ready")
        runtime = self._runtimes.setdefault(shard, ShardRuntime(shard, self._around))
        log.debug("shard %d: %s", shard, type(instruction).__name__)
        try:
            return await runtime.perform(instruction)
        except FencedError as error:
            log.warning("shard %d belongs to another worker now: %s", shard, error)
            return ev.Failed(shard, epoch, "fenced")
        except _RETRIED as error:
            what = type(instruction).__name__
            log.warning("shard %d is taken again: %s in %s: %s", shard, type(error).__name__, what, error)
            self.instrument.count("shard_failures", 1, instruction=what)
            return ev.Failed(shard, epoch, "retry")
        except CorruptStoreError as error:
            log.warning("shard %d: %s; it is moved aside and restored from its changelog", shard, error)
            runtime.discard_databases()
            return ev.Failed(shard, epoch, "retry")
