"""What all shards of a worker share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from ..state.store import Databases
from ..topics.batch import Partition
from ..topics.broker import Broker, GroupConsumer
from . import events as ev
from .global_rows import GlobalRows
from .instrument import Instrument
from .settings import AppSettings
from .topology import Topology


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all shards of a worker share."""

    topology: Topology
    broker: Broker
    consumer: GroupConsumer
    settings: AppSettings
    databases: Databases
    instrument: Instrument
    executor: Executor
    """Threads for tasks."""
    restorer: Executor
    """Threads for restores and warm copies: however long these take, tasks have threads of their own."""
    topic_ids: Mapping[str, str]
    """Of the changelog topics, by store."""
    digests: Mapping[str, str]
    """Of what the code says of each store (`fingerprint.py`)."""
    dead_letters: Mapping[str, int]
    """Dead-letter topics with their partition counts."""
    ends: Mapping[Partition, int] | None = None
    """Of a bounded run: where each outside input ends."""
    notify: Callable[[ev.ShardEvent], None] = lambda event: None
    """Told of what happens by itself: calls that ended."""
    positions: dict[int, int] = field(default_factory=dict)
    """By shard the changelog position that our files stand for, warm copies included; kept up to date by who writes them."""
    globals: Mapping[str, GlobalRows] = field(default_factory=dict)
    """Global tables by topic."""
