"""The phases of a shard, and what they have in common. How one follows another is drawn in `shard.py`."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where a shard is in its life."""

    AT_REST = "at rest"
    FENCING = "fencing"
    POSITIONING = "positioning"
    RESTORING = "restoring"
    RESUMING = "resuming"
    RUNNING = "running"
    PROCESSING = "processing"
    SENDING = "sending"
    PREPARING = "preparing"
    ACKNOWLEDGING = "acknowledging"
    OFFSETS = "sending offsets"
    COMMITTING = "committing"
    CHECKPOINTING = "checkpointing"
    DROPPING = "dropping"
    LOST = "lost"
    CLOSED = "closed"


WITHOUT_WORK = frozenset({Phase.AT_REST, Phase.LOST, Phase.CLOSED})
"""Phases in which nothing is under way. At rest means that producer and tasks are open, and all they did is committed."""

KEPT = frozenset({Phase.AT_REST, Phase.RESTORING})
"""Phases in which a rebalance finds a shard that can go on afterwards, if it was never another's."""

READING = frozenset(
    {
        Phase.RUNNING,
        Phase.PROCESSING,
        Phase.SENDING,
        Phase.PREPARING,
        Phase.ACKNOWLEDGING,
        Phase.OFFSETS,
        Phase.COMMITTING,
        Phase.CHECKPOINTING,
    }
)
"""Phases in which records may be given: they are worked on when the shard is running again."""
