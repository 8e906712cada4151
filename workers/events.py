"""What happens to a worker, as values: the coordinator is given these and nothing else.

An event of a shard carries the shard's `epoch`: work begun before a rebalance may end after it, and is then ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..topics.batch import Fetch, Partition
from .input_wait import TaskInputs

Failure = Literal["retry", "fenced"]
"""retry: nothing or something unknown was done; drop the producer and take the shard again. fenced: we are the zombie."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """The group gave us these shards, all we own now."""

    shards: frozenset[int]
    generation: int
    member: str = ""
    """Our id in the group: another one means that the old membership had ended, and the generations say nothing."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """A rebalance begins: everything must come to rest before the member may rejoin."""


@dataclass(frozen=True, slots=True)
class HaltOverdue:
    """Half the rebalance timeout has passed and some shards have not come to rest."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The worker is to end cleanly."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes."""

    now_ms: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """A poll gave records."""

    fetches: Sequence[Fetch]


@dataclass(frozen=True, slots=True)
class ShardEvent:
    """Something about one shard."""

    shard: int
    epoch: int


@dataclass(frozen=True, slots=True)
class ProducerReady(ShardEvent):
    """The shard's producer is initialised: older owners are fenced, what they left open is ended."""


@dataclass(frozen=True, slots=True)
class Positioned(ShardEvent):
    """The committed offsets were read."""


@dataclass(frozen=True, slots=True)
class Restored(ShardEvent):
    """States are back, steps are open at the committed offsets."""


@dataclass(frozen=True, slots=True)
class Resumed(ShardEvent):
    """The consumer reads on from where the tasks are."""

    inputs: tuple[TaskInputs, ...] = ()
    """Of tasks with several, of which some are not caught up."""


@dataclass(frozen=True, slots=True)
class Processed(ShardEvent):
    """A piece of work was done."""

    sends: int
    """How many sends wait in the shard's outbox."""
    dirty: bool
    """Whether there is anything to commit."""
    finished: bool = False
    """Whether a bounded input has been worked off to its end."""
    full: frozenset[Partition] = frozenset()
    """Inputs of which no more records should be read for now."""
    more: bool = False
    """Whether a task stopped in the middle of a batch until what it gave is sent: to be gone on with before anything else."""
    inputs: tuple[TaskInputs, ...] = ()
    """As in `Resumed`, after it."""


@dataclass(frozen=True, slots=True)
class Sent(ShardEvent):
    """The outbox was handed to the producer."""


@dataclass(frozen=True, slots=True)
class Prepared(ShardEvent):
    """The tasks' parts of a commit are in the outbox."""

    dirty: bool
    checkpoint_due: bool = False
    """Whether the databases are to be written after this commit: then nothing may be computed ahead of it."""


@dataclass(frozen=True, slots=True)
class CommitStepDone(ShardEvent):
    """A part of a commit has happened."""

    ahead: Processed | None = None
    """What came of the batch that was computed meanwhile."""


@dataclass(frozen=True, slots=True)
class Acknowledged(CommitStepDone):
    """Every record sent since the last commit has been acknowledged."""


@dataclass(frozen=True, slots=True)
class OffsetsSent(CommitStepDone):
    """The offsets are part of the transaction."""


@dataclass(frozen=True, slots=True)
class CommitDone(CommitStepDone):
    """The commit has happened."""

    checkpoint_at_ms: int | None = None
    """When the databases are to be written at the latest, should no other commit come before."""


@dataclass(frozen=True, slots=True)
class CheckpointWritten(ShardEvent):
    """The databases hold what is committed."""


@dataclass(frozen=True, slots=True)
class CallsEnded(ShardEvent):
    """Calls of waiting steps have outcomes."""


@dataclass(frozen=True, slots=True)
class Dropped(ShardEvent):
    """Producer and tasks are gone."""


@dataclass(frozen=True, slots=True)
class Failed(ShardEvent):
    """The instruction under way failed."""

    failure: Failure
