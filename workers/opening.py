"""What a worker finds out before it joins its group: where a bounded run ends, and what of the state is here already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from ..state.store import Databases
from ..topics.batch import Partition
from ..topics.broker import Broker
from .local_state import positions_on_disk, stores_of
from .naming import changelog_topic
from .threads import in_executor
from .topology import Topology


async def input_ends(broker: Broker, topology: Topology) -> dict[Partition, int]:
    """Where the outside inputs end now."""
    inside = {topic.name for topic in topology.internal_topics}
    partitions = [
        Partition(topic, index)
        for topic in topology.source_topics
        if topic not in inside
        for index in range(topology.partition_counts[topic])
    ]
    reader = broker.reader()
    await reader.start()
    try:
        return await reader.end_offsets(partitions)
    finally:
        await reader.stop()


@dataclass(frozen=True, slots=True)
class FoundState:
    """`stores`: by sub-topology. `topic_ids`: of the changelogs, by store. `positions`: of our databases, by shard."""

    stores: Mapping[str, Sequence[str]]
    topic_ids: Mapping[str, str]
    positions: dict[int, int]


async def found_state(broker: Broker, databases: Databases, topology: Topology, executor: Executor) -> FoundState:
    """Raises BrokerUnavailableError, LockedError, DiskError."""
    stores = stores_of(topology)
    changelogs = {changelog_topic(topology.app, store): store for named in stores.values() for store in named}
    found = await broker.describe_topics(list(changelogs))
    topic_ids = {changelogs[name]: info.topic_id for name, info in found.items()}
    positions = await in_executor(executor, lambda: positions_on_disk(databases, stores, topic_ids))
    return FoundState(stores, topic_ids, positions)
