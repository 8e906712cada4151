"""Before a worker joins its group: topics are found, checked and created, and the graph is planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..topics.broker import Broker, TopicSpec
from ..topics.ensure import ensure_topics
from ..topics.errors import ConfigurationError
from .app import App, outside_topics
from .fingerprint_topic import agree
from .instrument import Silent
from .naming import changelog_topic
from .settings import AppSettings
from .task import Task, TaskSettings
from .topology import Topology

COMPACTION_LAG_MS = 600_000
"""For so long a changelog keeps what was overwritten: `millstream backup` reads up to an offset that it chose before."""


async def prepare(app: App, broker: Broker, settings: AppSettings) -> Topology:
    """Creates what is missing, checks what is there, and plans with the partition counts found.

    Raises TopicMismatchError, PlanError (FingerprintError where the code does not fit the state it left), and
    ConfigurationError for a topic that is missing and may not be created.
    """
    await ensure_topics(broker, outside_specs(app), create=settings.create_topics)
    names = {spec.name for spec in outside_specs(app)}
    found = await broker.describe_topics(names)
    missing = sorted(names - set(found))
    if missing:
        raise ConfigurationError(f"topic {missing[0]!r} does not exist and the broker did not create it")
    topology = app.plan({name: info.partitions for name, info in found.items()})
    await agree(broker, topology, settings.internal_replication)
    await ensure_topics(broker, internal_specs(topology, settings), create=True)
    return topology


def outside_specs(app: App) -> list[TopicSpec]:
    """Topics the app reads and writes, and their dead letters, each once."""
    specs: dict[str, TopicSpec] = {}
    for topic in outside_topics(app.graph):
        specs.setdefault(topic.name, topic.spec())
        if topic.dead_letters:
            specs.setdefault(topic.dead_letters, TopicSpec(topic.dead_letters))
    return list(specs.values())


def internal_specs(topology: Topology, settings: AppSettings) -> list[TopicSpec]:
    """Repartition topics and changelogs."""
    replication = settings.internal_replication
    repartitions = [replace(topic.spec(), replication=replication) for topic in topology.internal_topics]
    changelogs = [
        changelog_spec(changelog_topic(topology.app, store), partitions, replication)
        for store, partitions in store_partitions(topology).items()
    ]
    return [*repartitions, *changelogs]


def changelog_spec(name: str, partitions: int, replication: int | None) -> TopicSpec:
    """A changelog as it is created, by a worker or by `millstream restore`."""
    return TopicSpec(name, partitions, replication, "compact", {"min.compaction.lag.ms": str(COMPACTION_LAG_MS)})


def store_partitions(topology: Topology) -> Mapping[str, int]:
    """Stores of the app, by name, with how many partitions their changelogs have."""
    return {
        store: sub.partitions
        for sub in topology.subs
        for store in Task(topology, sub, 0, TaskSettings(), Silent()).states
    }
