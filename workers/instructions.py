"""What a worker is to do next, as values: the coordinator gives these, the shell performs them.

Of one shard only one instruction is under way at a time, and it is answered by exactly one event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..topics.batch import Fetch


@dataclass(frozen=True, slots=True)
class LetRebalance:
    """Everything has come to rest: the member may rejoin."""


@dataclass(frozen=True, slots=True)
class RequestRejoin:
    """Ask the group for a new generation: what was taken from us may have been given to nobody."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Everything is closed: leave the group and end."""


@dataclass(frozen=True, slots=True)
class ShardInstruction:
    """Something to do for one shard."""

    shard: int
    epoch: int


@dataclass(frozen=True, slots=True)
class StartProducer(ShardInstruction):
    """Wait `delay_ms`, then a fresh producer for the shard. Answered by ProducerReady."""

    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class ReadPositions(ShardInstruction):
    """Read the committed offsets, after the producer is ready and never before. Answered by Positioned."""


@dataclass(frozen=True, slots=True)
class Restore(ShardInstruction):
    """Build the tasks and bring their states back. Needs no membership. Answered by Restored."""


@dataclass(frozen=True, slots=True)
class Resume(ShardInstruction):
    """Have the consumer read on from where the tasks are. Answered by Resumed."""


@dataclass(frozen=True, slots=True)
class Process(ShardInstruction):
    """What was stopped in the middle of a batch first, outcomes of calls, then these fetches, then the time. Answered by Processed."""

    fetches: Sequence[Fetch] = ()


@dataclass(frozen=True, slots=True)
class SendOutbox(ShardInstruction):
    """Hand the outbox to the producer; begin a transaction first where `begin`. Answered by Sent."""

    begin: bool


@dataclass(frozen=True, slots=True)
class Prepare(ShardInstruction):
    """Gather the tasks' parts of a commit. Answered by Prepared."""


@dataclass(frozen=True, slots=True)
class CommitStep(ShardInstruction):
    """A part of a commit that waits for the broker; meanwhile the next batch is computed, if there is one."""

    ahead: Sequence[Fetch] = ()
    """The next batch. What it gives stays here until this commit is through, and is thrown away with it if it fails."""


@dataclass(frozen=True, slots=True)
class AwaitAcknowledgements(CommitStep):
    """Answered by Acknowledged, or by Failed when any record was refused."""


@dataclass(frozen=True, slots=True)
class SendOffsets(CommitStep):
    """Exactly one call a transaction, after every acknowledgement. Answered by OffsetsSent."""


@dataclass(frozen=True, slots=True)
class CommitTransaction(CommitStep):
    """Answered by CommitDone."""


@dataclass(frozen=True, slots=True)
class CommitOffsets(CommitStep):
    """At-least-once: commit the offsets outside a transaction. Answered by CommitDone."""


@dataclass(frozen=True, slots=True)
class WriteCheckpoint(ShardInstruction):
    """Write committed state to the databases. Answered by CheckpointWritten."""


@dataclass(frozen=True, slots=True)
class Drop(ShardInstruction):
    """Let producer and tasks go without delivering anything; files stay. Answered by Dropped."""


@dataclass(frozen=True, slots=True)
class Close(ShardInstruction):
    """After a clean commit: write a checkpoint, close producer and tasks. Answered by Dropped."""
