"""A worker's whole life without I/O: events in, instructions out (the way of dask.distributed's worker state machine).

                       Assigned                      Revoked                    all at rest
    JOINING ----------------------> WORKING ---------------------> HALTING ------------------> JOINING
                                       |                                        (LetRebalance)
                                       |  StopRequested, or every shard finished
                                       v
                                    STOPPING --all closed--> STOPPED  (Leave)

It knows which shards are ours and in which phase each is (`shard.py`); tasks, producers and files are the shell's. After
every event `check` asserts the invariants, so that a fault is seen where it happens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from ..topics.batch import Fetch, Partition
from . import events as ev
from . import instructions as do
from .errors import InvariantError
from .phase import KEPT, WITHOUT_WORK, Phase
from .shard import Shard, ShardRules

Event = ev.Assigned | ev.Revoked | ev.HaltOverdue | ev.StopRequested | ev.Tick | ev.Fetched | ev.ShardEvent
Instruction = do.LetRebalance | do.RequestRejoin | do.Leave | do.ShardInstruction


class Life(Enum):
    """See the drawing."""

    JOINING = "joining"
    WORKING = "working"
    HALTING = "halting"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(slots=True)
class Coordinator:
    """One worker's decisions."""

    rules: ShardRules
    stop_when_finished: bool = False
    """A bounded run: stop once every shard of ours has worked its input off."""
    life: Life = Life.JOINING
    shards: dict[int, Shard] = field(default_factory=dict)
    generation: int = -1
    member: str = ""
    now_ms: int = 0

    def handle(self, event: Event) -> list[Instruction]:
        """What to do now. The order of the instructions of one shard is the order in which they are to be performed."""
        given = list(self._handle(event))
        given += self._settled()
        self.check()
        return given

    def wanted(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Of the partitions assigned, those a poll should bring records of."""
        return [p for p in partitions if p.index in self.shards and self.shards[p.index].wants(p)]

    # -- events

    def _handle(self, event: Event) -> Sequence[Instruction]:
        match event:
            case ev.Assigned():
                return self._assigned(event)
            case ev.Revoked():
                return self._revoked()
            case ev.HaltOverdue():
                return self._all(shard.drop() for shard in self.shards.values() if not shard.quiet)
            case ev.StopRequested():
                return self._stop()
            case ev.Tick():
                self.now_ms = event.now_ms
                return self._all(shard.tick(event.now_ms) for shard in self.shards.values())
            case ev.Fetched():
                return self._fetched(event)
            case ev.ShardEvent():
                return self._shard_event(event)

    def _assigned(self, event: ev.Assigned) -> Sequence[Instruction]:
        if self.life in {Life.STOPPING, Life.STOPPED}:
            return ()
        unbroken = self._unbroken(event)
        self.life, self.generation, self.member = Life.WORKING, event.generation, event.member
        lost = [self.shards[number] for number in sorted(self.shards) if number not in event.shards]
        given = self._all(shard.drop() for shard in lost)
        for number in sorted(event.shards):
            shard = self.shards.setdefault(number, Shard(number, self.rules))
            shard.now_ms = self.now_ms
            given += self._all([shard.resume() if unbroken and shard.phase in KEPT else shard.take()])
        return given

    def _unbroken(self, event: ev.Assigned) -> bool:
        """Whether no generation lies between the last that we were in and this one, so that what was ours in both was never
        another's. A generation number means something within one membership only."""
        return event.member == self.member and event.generation in {self.generation, self.generation + 1}

    def _revoked(self) -> Sequence[Instruction]:
        if self.life is Life.WORKING:
            self.life = Life.HALTING
        elif self.life is not Life.STOPPING:
            return [do.LetRebalance()]
        return self._all(shard.halt() for shard in self.shards.values())

    def _stop(self) -> Sequence[Instruction]:
        if self.life in {Life.STOPPING, Life.STOPPED}:
            return ()
        self.life = Life.STOPPING
        return self._all(
            shard.drop() if shard.phase is Phase.RESTORING else shard.halt() for shard in self.shards.values()
        )

    def _fetched(self, event: ev.Fetched) -> Sequence[Instruction]:
        by_shard: dict[int, list[Fetch]] = {}
        for fetch in event.fetches:
            by_shard.setdefault(fetch.partition.index, []).append(fetch)
        return self._all(
            self.shards[number].fetched(fetches) for number, fetches in by_shard.items() if number in self.shards
        )

    def _shard_event(self, event: ev.ShardEvent) -> Sequence[Instruction]:
        shard = self.shards.get(event.shard)
        if shard is None:
            return ()
        given = self._all([shard.handle(event)])
        if shard.phase is Phase.LOST and isinstance(event, ev.Dropped) and self.life is Life.WORKING:
            # Fenced: never initialise again alone. Only a new generation says who owns the shard.
            given.append(do.RequestRejoin())
        return given

    # -- what follows from the whole

    def _settled(self) -> Sequence[Instruction]:
        if self.life is Life.WORKING and self.stop_when_finished and self._all_finished():
            return self._stop()
        if self.life is Life.HALTING and all(shard.quiet for shard in self.shards.values()):
            self.life = Life.JOINING
            return [do.LetRebalance()]
        if self.life is Life.STOPPING:
            return self._closing()
        return ()

    def _all_finished(self) -> bool:
        running = [shard for shard in self.shards.values() if shard.phase is not Phase.LOST]
        return bool(running) and all(shard.finished and shard.dirty_since_ms is None for shard in running)

    def _closing(self) -> Sequence[Instruction]:
        """Shards at rest are closed, each for itself; the last one ends the worker."""
        given = self._all(shard.close() for shard in self.shards.values() if shard.phase is Phase.AT_REST)
        if all(shard.phase in {Phase.CLOSED, Phase.LOST} for shard in self.shards.values()):
            self.life = Life.STOPPED
            return [*given, do.Leave()]
        return given

    def _all(self, instructions: Iterable[do.ShardInstruction | None]) -> list[Instruction]:
        return [instruction for instruction in instructions if instruction is not None]

    # -- invariants

    def check(self) -> None:
        """Raises InvariantError for what must never be."""
        for shard in self.shards.values():
            if shard.in_transaction and not self.rules.exactly_once:
                raise InvariantError(f"shard {shard.number} is in a transaction under at-least-once")
            if shard.phase in {Phase.OFFSETS, Phase.COMMITTING} and not shard.committing:
                raise InvariantError(f"shard {shard.number} is {shard.phase.value} without a commit under way")
            if shard.phase in {Phase.PREPARING, Phase.AT_REST} and shard.more:
                raise InvariantError(f"shard {shard.number} is {shard.phase.value} in the middle of a batch")
            if shard.phase is Phase.AT_REST and (shard.in_transaction or shard.dirty_since_ms is not None):
                raise InvariantError(f"shard {shard.number} is at rest with work that is not committed")
            if shard.phase is Phase.CHECKPOINTING and shard.dirty_since_ms is not None:
                raise InvariantError(f"shard {shard.number} writes a checkpoint with work that is not committed")
            if self.life in ALLOWED and shard.phase not in ALLOWED[self.life]:
                raise InvariantError(f"the worker is {self.life.value}, shard {shard.number} is {shard.phase.value}")


ALLOWED = {
    Life.JOINING: WITHOUT_WORK | {Phase.RESTORING, Phase.DROPPING},
    Life.STOPPED: WITHOUT_WORK,
}
"""Phases of shards while the group decides, and at the end: nothing that only an owner may do."""
