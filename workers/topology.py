"""From a graph to what runs: sub-topologies, cut at repartition topics, each run by one task a partition.

    clicks --filter--> [repartition by page] ......> page-repartition --window--> totals
    |---------- sub-topology 0 ------------|         |-------- sub-topology 1 --------|

Two nodes are in one sub-topology when rows go from one to the other inside a process. A repartition node is the end of one
sub-topology (it writes the internal topic) and the beginning of another (it is the source that reads it). How many
partitions everything has follows from the topics that exist, so planning takes their counts and asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from ..topics.batch import MAX_TIME
from ..topics.schema import Schema
from ..topics.topic import Topic
from .copartition import copartitioned
from .errors import PlanError
from .graph import Graph, Node, Port, Repartition, Sink, Source, Work
from .naming import repartition_topic
from .operator import ReadsTables
from .repartition import BLOCK_TIME

INTERNAL_RETENTION_MS = 7 * 86_400_000
"""Rows in a repartition topic are needed until they are read; a week leaves time to repair what stands still."""


@dataclass(frozen=True, slots=True)
class SubTopology:
    """Nodes that run in one task, in an order in which every input comes first."""

    name: str
    nodes: tuple[Node, ...]
    """Sources (those that read a repartition topic too), works, sinks and repartitions."""
    partitions: int
    """How many tasks it has."""

    @property
    def sources(self) -> list[Source]:
        return [node for node in self.nodes if isinstance(node, Source)]

    @property
    def works(self) -> list[Work]:
        return [node for node in self.nodes if isinstance(node, Work)]

    @property
    def sinks(self) -> list[Sink]:
        return [node for node in self.nodes if isinstance(node, Sink)]

    @property
    def repartitions(self) -> list[Repartition]:
        return [node for node in self.nodes if isinstance(node, Repartition)]

    @property
    def table_sources(self) -> frozenset[str]:
        """Sources of tables that are looked into: read to their end first, and of no weight for the watermark.

        A source that also is the stream of such a step is none of them.
        """
        tables: set[str] = set()
        streams: set[str] = set()
        for work in self.works:
            looked_into = work.step.table_inputs if isinstance(work.step, ReadsTables) else ()
            for index, port in enumerate(work.inputs):
                (tables if index in looked_into else streams).update(_reaching(self, port) if looked_into else ())
        return frozenset(tables - streams)

    def readers(self, port: Port) -> list[tuple[Node, int]]:
        """The nodes that read a port, with the number of the input they read it by."""
        return [(node, index) for node in self.nodes for index, source in enumerate(node.inputs) if source == port]


@dataclass(frozen=True, slots=True)
class Topology:
    """The whole plan of an app, with every partition count known."""

    app: str
    graph: Graph
    subs: tuple[SubTopology, ...]
    partition_counts: Mapping[str, int]
    """Of every topic read or written, internal ones included."""

    @property
    def source_topics(self) -> list[str]:
        """What the consumer group subscribes to."""
        return sorted({source.topic.name for sub in self.subs for source in sub.sources})

    @property
    def internal_topics(self) -> list[Topic]:
        """Repartition topics, as they must be created."""
        nodes = [node for sub in self.subs for node in sub.repartitions]
        return [
            internal_topic(self.app, node, self.partition_counts[repartition_topic(self.app, node.name)])
            for node in nodes
        ]

    @property
    def shards(self) -> int:
        """A shard is a partition number: the tasks of all sub-topologies for it move together."""
        return max((sub.partitions for sub in self.subs), default=0)

    def tasks_of(self, shard: int) -> Iterator[SubTopology]:
        """The sub-topologies that have a task for this partition number."""
        return (sub for sub in self.subs if shard < sub.partitions)

    def writers_of(self, topic: str) -> list[tuple[str, int]]:
        """(sub-topology, partition) of every task that writes a repartition topic."""
        return [
            (sub.name, partition)
            for sub in self.subs
            if any(repartition_topic(self.app, node.name) == topic for node in sub.repartitions)
            for partition in range(sub.partitions)
        ]


def internal_topic(app: str, node: Repartition, partitions: int) -> Topic:
    """The topic of a repartition node. Its records are blocks of rows; the event time travels inside them."""
    return Topic(
        name=repartition_topic(app, node.name),
        schema=Schema((*node.schema.columns, (BLOCK_TIME, pl.Int64()))),
        key=node.key,
        event_time=BLOCK_TIME,
        codec="arrow",
        partitions=partitions,
        retention_ms=INTERNAL_RETENTION_MS,
        future_max_ms=MAX_TIME,
    )


def plan(app: str, graph: Graph, partition_counts: Mapping[str, int]) -> Topology:
    """Cut the graph and count partitions.

    `partition_counts`: of every topic that is read or written from outside (existing or as declared).
    Raises PlanError for a graph without sources, and for joined topics of different partition counts that nothing can mend.
    """
    if not any(isinstance(node, Source) for node in graph):
        raise PlanError(f"app {app!r} reads no topic; begin with app.stream(topic)")
    counts = dict(partition_counts)
    graph = copartitioned(graph, counts)
    subs: list[SubTopology] = []
    for number, names in enumerate(_in_order(graph, _components(graph))):
        nodes = _nodes_of(app, graph, names)
        partitions = _partitions(app, nodes, counts, subs)
        subs.append(SubTopology(str(number), _with_counts(app, nodes, counts), partitions))
    return Topology(app, graph, tuple(subs), counts)


def _components(graph: Graph) -> list[set[str]]:
    """Node names that belong together; the reading side of a repartition is named `<name>>`."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph:
        find(node.name)
        for port in node.inputs:
            parent[find(_reading_side(graph, port.node))] = find(node.name)
    groups: dict[str, set[str]] = {}
    for name in list(parent):
        groups.setdefault(find(name), set()).add(name)
    return list(groups.values())


def _reading_side(graph: Graph, name: str) -> str:
    return f"{name}>" if isinstance(graph.nodes[name], Repartition) else name


def _in_order(graph: Graph, components: list[set[str]]) -> list[set[str]]:
    """Writers of a repartition topic before its readers; otherwise as they were declared."""
    position = {name: number for number, name in enumerate(graph.nodes)}
    left = sorted(components, key=lambda names: min(position[name.removesuffix(">")] for name in names))
    ordered: list[set[str]] = []
    written: set[str] = set()
    while left:
        ready = next((names for names in left if all(n[:-1] in written for n in names if n.endswith(">"))), None)
        if ready is None:
            raise PlanError(f"repartitions form a circle through {sorted(left[0])}")
        left.remove(ready)
        ordered.append(ready)
        written |= ready
    return ordered


def _nodes_of(app: str, graph: Graph, names: set[str]) -> list[Node]:
    nodes: list[Node] = []
    for node in graph:
        if f"{node.name}>" in names and isinstance(node, Repartition):
            topic = _with_policy_of(_outside_sources(graph, node), internal_topic(app, node, 1))
            nodes.append(Source(node.name, topic, node.schema))
        if node.name in names:
            nodes.append(node)
    return nodes


def _outside_sources(graph: Graph, node: Node) -> list[Source]:
    """The sources whose rows reach a node."""
    if isinstance(node, Source):
        return [node]
    by_name = {one.name: one for one in graph}
    return [source for port in node.inputs for source in _outside_sources(graph, by_name[port.node])]


def _with_policy_of(sources: Sequence[Source], topic: Topic) -> Topic:
    """What is bad in a row does not depend on where the row has been: the strictest of the sources' policies holds behind it."""
    topics = [source.topic for source in sources]
    strict = [one for policy in ("fail", "dead_letter") for one in topics if one.on_bad_record == policy]
    if not strict:
        return topic
    letters = next((one.dead_letters for one in topics if one.dead_letters), None)
    return replace(topic, on_bad_record=strict[0].on_bad_record, dead_letters=letters)


def _partitions(app: str, nodes: list[Node], counts: dict[str, int], before: Iterable[SubTopology]) -> int:
    """The sub-topology's task count; fills in the counts of the repartition topics it reads."""
    topics = [node.topic.name for node in nodes if isinstance(node, Source)]
    outside = [counts[name] for name in topics if name in counts]
    upstream = [
        sub.partitions for sub in before if any(repartition_topic(app, n.name) in topics for n in sub.repartitions)
    ]
    chosen = max(outside or upstream)
    for name in topics:
        counts.setdefault(name, chosen)
    return max(counts[name] for name in topics)


def _with_counts(app: str, nodes: list[Node], counts: Mapping[str, int]) -> tuple[Node, ...]:
    """Sources of repartition topics with the partition count that was found for them."""
    return tuple(
        replace(node, topic=replace(node.topic, partitions=counts[node.topic.name]))
        if isinstance(node, Source) and node.topic.name == repartition_topic(app, node.name)
        else node
        for node in nodes
    )


def _reaching(sub: SubTopology, port: Port) -> set[str]:
    """The sub-topology's sources whose rows come to a port."""
    by_name = {node.name: node for node in sub.nodes if not isinstance(node, Repartition)}
    reached, open_names = set(), [port.node]
    while open_names:
        name = open_names.pop()
        if name not in reached:
            reached.add(name)
            open_names.extend(one.node for one in by_name[name].inputs)
    return {name for name in reached if isinstance(by_name[name], Source)}
