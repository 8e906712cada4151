"""The life of one shard, as a table: events in, instructions out, no I/O (exactly-once.md, "Taking a shard").

                         take                ready                 positioned            restored             resumed
    CLOSED / LOST   ------------> FENCING ----------> POSITIONING -----------> RESTORING ---------> RESUMING --> RUNNING
                                     ^                                                                 ^             |
                                     |  dropped, after a pause                                         |             |
    any working phase --failed--> DROPPING                                       AT_REST --resume------+             |
                                     |  dropped, when fenced                                   process | commit is due
                                     v                                                                               v
                                   LOST                                                                  PROCESSING, or
                                                 RUNNING <-- CHECKPOINTING <-- COMMITTING <-- OFFSETS <-- ACKNOWLEDGING
                                                                                                 <-- SENDING <-- PREPARING

While the broker is asked for something in a commit (ACKNOWLEDGING, OFFSETS, COMMITTING) the next batch is computed, and what
comes of it waits for the next transaction (docs/decisions/0018-the-next-batch-while-a-commit-waits.md).

A shard is one partition number: the tasks of all sub-topologies for it, one transactional producer. Only one instruction is
under way at a time. A halt (rebalance, stop) lets the open work come to its commit and then leaves the shard AT_REST, with
everything open. Nothing of it is lost if it is ours again before it can have been another's: then it is resumed, else taken
(docs/decisions/0013-a-shard-that-stays-goes-on.md). A restore needs no membership, so it goes on through a rebalance.

What failed is never repaired in place. State in memory may be ahead of what was committed, and the outcome of a commit may
be unknown, so the producer is dropped and the shard is taken again from the beginning: initialising the producer settles
whatever was open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..topics.batch import Fetch, Partition
from . import events as ev
from . import instructions as do
from .errors import InvariantError
from .input_wait import InputWait
from .phase import KEPT, READING, WITHOUT_WORK, Phase
from .portions import Portions


@dataclass(frozen=True, slots=True)
class ShardRules:
    """What the shard must know of the app's settings."""

    exactly_once: bool
    commit_interval_ms: int
    tick_interval_ms: int = 200
    retry_backoff_ms: int = 100
    retry_backoff_ms_max: int = 5_000
    wait_for_inputs_ms: int = 0


@dataclass(slots=True)
class Shard:
    """One shard's state. Every method gives the next instruction, or None when there is nothing to do now."""

    number: int
    rules: ShardRules
    phase: Phase = Phase.CLOSED
    epoch: int = 0
    halting: bool = False
    dirty_since_ms: int | None = None
    in_transaction: bool = False
    committing: bool = False
    checkpoint_due: bool = False
    """Whether the commit under way ends in a checkpoint, for which the state must hold nothing else."""
    checkpoint_at_ms: int | None = None
    """When a shard that has nothing to do writes its checkpoint."""
    ahead_since_ms: int | None = None
    """Since when there is work of the next commit in the state, while the last one is under way."""
    finished: bool = False
    full: frozenset[Partition] = frozenset()
    more: bool = False
    """Whether a batch is worked off half: it is gone on with as soon as what it gave so far is sent, before any commit."""
    calls_ended: bool = False
    failures: int = 0
    after_drop: Phase = Phase.FENCING
    fetches: list[Fetch] = field(default_factory=list)
    portions: Portions = field(default_factory=Portions)
    waits: InputWait = field(init=False)
    now_ms: int = 0
    ticked_ms: int = 0

    def __post_init__(self) -> None:
        self.waits = InputWait(self.rules.wait_for_inputs_ms)

    # -- from the coordinator

    def take(self) -> do.ShardInstruction | None:
        """The shard is ours, and may have been another's until now: begin from the beginning."""
        if self.phase is Phase.DROPPING:  # its rebalance was over before it had let go
            self.halting, self.after_drop = False, Phase.FENCING
            return None
        if self.phase is Phase.RESTORING:
            self.halting = False
            return self._drop(Phase.FENCING)
        if self.phase not in WITHOUT_WORK:
            raise InvariantError(f"shard {self.number} was given to us while it is {self.phase.value}")
        self._reset()
        return self._go(Phase.FENCING, do.StartProducer(self.number, self.epoch, self._pause_ms()))

    def resume(self) -> do.ShardInstruction | None:
        """The shard stayed ours: producer, tasks and calls under way go on as they are."""
        if self.phase not in KEPT:
            raise InvariantError(f"shard {self.number} was to go on while it is {self.phase.value}")
        self.halting = False
        return self._resume() if self.phase is Phase.AT_REST else None

    def halt(self) -> do.ShardInstruction | None:
        """Come to rest: commit what is worked off, take no more."""
        self.halting = True
        self.fetches = []
        return self._next() if self.phase is Phase.RUNNING else None

    def drop(self) -> do.ShardInstruction | None:
        """Let go at once, whatever is under way: its answer will be of an old epoch."""
        if self.phase in {Phase.LOST, Phase.CLOSED}:
            return None
        if self.phase is Phase.DROPPING:  # cut short, it might leave things open
            self.after_drop = Phase.CLOSED
            return None
        return self._drop(Phase.CLOSED)

    def close(self) -> do.ShardInstruction | None:
        """After coming to rest, for good."""
        if self.phase is not Phase.AT_REST:
            return self.drop()
        self.after_drop = Phase.CLOSED
        return self._go(Phase.DROPPING, do.Close(self.number, self.epoch))

    @property
    def at_rest(self) -> bool:
        return self.phase in WITHOUT_WORK

    @property
    def quiet(self) -> bool:
        """Whether a rebalance need not wait for it: it does nothing that depends on the generation."""
        return self.at_rest or self.phase is Phase.RESTORING

    def wants(self, partition: Partition) -> bool:
        """Whether a poll may bring records of it: what the shard has been given must be worked off first, or waits for them."""
        if self.phase not in READING or self.halting or partition in self.full:
            return False
        return not self.fetches or partition in self.waits.missing(self.fetches)

    def fetched(self, fetches: Sequence[Fetch]) -> do.ShardInstruction | None:
        """Records of the shard; those that come while it halts are dropped, for they will be read again."""
        if self.halting or self.phase not in READING:
            return None
        self.fetches.extend(fetches)
        self.waits.arrived(fetches)
        return self._next() if self.phase is Phase.RUNNING else None

    def tick(self, now_ms: int) -> do.ShardInstruction | None:
        self.now_ms = now_ms
        return self._next() if self.phase is Phase.RUNNING else None

    # -- from the shell

    def handle(self, event: ev.ShardEvent) -> do.ShardInstruction | None:
        """The answer to the instruction under way. Answers of an old epoch are ignored."""
        if event.epoch != self.epoch:
            return None
        if isinstance(event, ev.CallsEnded):
            self.calls_ended = True
            return self._next() if self.phase is Phase.RUNNING else None
        if isinstance(event, ev.Failed):
            return self._failed(event)
        expected = ANSWERS.get(self.phase)
        if expected is None or not isinstance(event, expected):
            raise InvariantError(f"shard {self.number} is {self.phase.value} and was told {type(event).__name__}")
        return self._answered(event)

    def _answered(self, event: ev.ShardEvent) -> do.ShardInstruction | None:
        number, epoch = self.number, self.epoch
        match event:
            case ev.ProducerReady():
                return self._go(Phase.POSITIONING, do.ReadPositions(number, epoch))
            case ev.Positioned():
                return self._go(Phase.RESTORING, do.Restore(number, epoch))
            case ev.Restored():
                return self._restored()
            case ev.Resumed():
                self.waits.tasks = event.inputs
                return self._run()
            case ev.CheckpointWritten():
                return self._run()
            case ev.Processed():
                return self._processed(event)
            case ev.Sent():
                return self._sent()
            case ev.Prepared():
                return self._prepared(event)
            case ev.CommitStepDone():
                return self._commit_went_on(event)
            case ev.Dropped():
                return self._dropped()
        raise InvariantError(f"shard {number}: no rule for {type(event).__name__}")

    # -- the table's rows

    def _restored(self) -> do.ShardInstruction | None:
        """In a rebalance nothing may be sought; whether the shard goes on is known when it has ended."""
        if self.halting:
            self.phase = Phase.AT_REST
            return None
        return self._resume()

    def _resume(self) -> do.ShardInstruction:
        return self._go(Phase.RESUMING, do.Resume(self.number, self.epoch))

    def _run(self) -> do.ShardInstruction | None:
        self.phase = Phase.RUNNING
        return self._next()

    def _next(self) -> do.ShardInstruction | None:
        """What a running shard does now."""
        if self.more:
            return self._go(Phase.PROCESSING, do.Process(self.number, self.epoch))
        if self._commit_due():
            self.committing = True
            return self._go(Phase.PREPARING, do.Prepare(self.number, self.epoch))
        if self.halting:
            self.phase = Phase.AT_REST
            return None
        given = self._portion()
        if given or self.calls_ended or self.now_ms - self.ticked_ms >= self.rules.tick_interval_ms:
            self.calls_ended = False
            self.ticked_ms = self.now_ms
            return self._go(Phase.PROCESSING, do.Process(self.number, self.epoch, given))
        if self.checkpoint_at_ms is not None and self.dirty_since_ms is None and self.now_ms >= self.checkpoint_at_ms:
            return self._checkpoint()
        return None

    def _portion(self) -> tuple[Fetch, ...]:
        """What is worked on next."""
        free, held = self.waits.split(self.fetches, self.now_ms)
        given, left = self.portions.take(free)
        self.fetches = held + left
        return given

    def _commit_due(self) -> bool:
        if self.dirty_since_ms is None:
            return False
        waited = self.now_ms - self.dirty_since_ms
        return self.halting or self.finished or waited >= self.rules.commit_interval_ms

    def _processed(self, event: ev.Processed) -> do.ShardInstruction | None:
        self._computed(event)
        if event.dirty and self.dirty_since_ms is None:
            self.dirty_since_ms = self.now_ms
        return self._send() if event.sends else self._run()

    def _computed(self, event: ev.Processed) -> None:
        self.finished, self.full, self.more = event.finished, event.full, event.more
        self.waits.tasks = event.inputs
        if event.more:
            self.portions.stopped()
        else:
            self.portions.ended()

    def _send(self) -> do.ShardInstruction:
        begin = self.rules.exactly_once and not self.in_transaction
        self.in_transaction = self.in_transaction or begin
        return self._go(Phase.SENDING, do.SendOutbox(self.number, self.epoch, begin))

    def _sent(self) -> do.ShardInstruction | None:
        if self.committing:
            return self._commit_step(Phase.ACKNOWLEDGING, do.AwaitAcknowledgements)
        return self._run()

    def _prepared(self, event: ev.Prepared) -> do.ShardInstruction | None:
        if not event.dirty:
            self.committing, self.dirty_since_ms = False, None
            return self._run()
        self.checkpoint_due = event.checkpoint_due
        return self._send()

    def _commit_went_on(self, event: ev.CommitStepDone) -> do.ShardInstruction | None:
        if event.ahead is not None:
            self._computed(event.ahead)
            if event.ahead.dirty and self.ahead_since_ms is None:
                self.ahead_since_ms = self.now_ms
        if isinstance(event, ev.CommitDone):
            self.checkpoint_at_ms = event.checkpoint_at_ms
            return self._committed()
        if isinstance(event, ev.OffsetsSent):
            return self._commit_step(Phase.COMMITTING, do.CommitTransaction)
        if self.rules.exactly_once:
            return self._commit_step(Phase.OFFSETS, do.SendOffsets)
        return self._commit_step(Phase.COMMITTING, do.CommitOffsets)

    def _commit_step(self, phase: Phase, step: type[do.CommitStep]) -> do.ShardInstruction:
        """With the next batch, if there is one and it may be computed."""
        given: tuple[Fetch, ...] = ()
        if not self.checkpoint_due and not self.more:
            given = self._portion()
        return self._go(phase, step(self.number, self.epoch, given))

    def _committed(self) -> do.ShardInstruction | None:
        self.in_transaction = self.committing = False
        self.dirty_since_ms, self.ahead_since_ms = self.ahead_since_ms, None
        self.failures = 0
        return self._checkpoint() if self.checkpoint_due else self._run()

    def _checkpoint(self) -> do.ShardInstruction:
        self.checkpoint_due, self.checkpoint_at_ms = False, None
        return self._go(Phase.CHECKPOINTING, do.WriteCheckpoint(self.number, self.epoch))

    def _failed(self, event: ev.Failed) -> do.ShardInstruction:
        self.failures += 1
        self.portions.ended()
        return self._drop(Phase.LOST if event.failure == "fenced" else Phase.FENCING)

    def _drop(self, afterwards: Phase) -> do.ShardInstruction:
        self.epoch += 1
        self.after_drop = afterwards
        return self._go(Phase.DROPPING, do.Drop(self.number, self.epoch))

    def _dropped(self) -> do.ShardInstruction | None:
        target = Phase.CLOSED if self.halting else self.after_drop
        if target is Phase.FENCING:
            self._reset()
            return self._go(Phase.FENCING, do.StartProducer(self.number, self.epoch, self._pause_ms()))
        self.phase = target
        return None

    # -- helpers

    def _go(self, phase: Phase, instruction: do.ShardInstruction) -> do.ShardInstruction:
        self.phase = phase
        return instruction

    def _reset(self) -> None:
        self.epoch += 1
        self.halting = self.in_transaction = self.committing = self.finished = self.calls_ended = False
        self.full = frozenset()
        self.checkpoint_due = self.more = False
        self.dirty_since_ms = self.ahead_since_ms = self.checkpoint_at_ms = None
        self.fetches = []
        self.waits.begin()
        self.after_drop = Phase.FENCING

    def _pause_ms(self) -> int:
        """Grows twofold with every failure in a row, up to the limit."""
        if self.failures == 0:
            return 0
        return min(self.rules.retry_backoff_ms << min(self.failures - 1, 16), self.rules.retry_backoff_ms_max)


ANSWERS: dict[Phase, type[ev.ShardEvent]] = {
    Phase.FENCING: ev.ProducerReady,
    Phase.POSITIONING: ev.Positioned,
    Phase.RESTORING: ev.Restored,
    Phase.RESUMING: ev.Resumed,
    Phase.PROCESSING: ev.Processed,
    Phase.SENDING: ev.Sent,
    Phase.PREPARING: ev.Prepared,
    Phase.ACKNOWLEDGING: ev.Acknowledged,
    Phase.OFFSETS: ev.OffsetsSent,
    Phase.COMMITTING: ev.CommitDone,
    Phase.CHECKPOINTING: ev.CheckpointWritten,
    Phase.DROPPING: ev.Dropped,
}
"""The one answer each phase waits for, besides Failed."""
