"""What all shards of a worker share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from ..state.store import Databases
from ..topics.batch import Partition
from ..topics.broker import Broker, GroupConsumer
from . import events as ev
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
    topic_ids: Mapping[str, str]
    """Of the changelog topics, by store."""
    dead_letters: Mapping[str, int]
    """Dead-letter topics with their partition counts."""
    ends: Mapping[Partition, int] | None = None
    """Of a bounded run: where each outside input ends."""
    notify: Callable[[ev.ShardEvent], None] = lambda event: None
    """Told of what happens by itself: calls that ended."""
