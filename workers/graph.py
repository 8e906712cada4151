"""The plan as data: what was declared, as nodes whose inputs are the outputs of earlier nodes.

The fluent classes (`stream.py`) add nodes and hold no logic; `topology.py` cuts the graph into sub-topologies; running it
is the business of `task.py`. A graph is a value passed as an argument, never a global, and nodes are only ever added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..topics.schema import Schema
from ..topics.topic import Topic
from .errors import PlanError
from .operator import Step


@dataclass(frozen=True, slots=True)
class Port:
    """One output of one node."""

    node: str
    output: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of a topic."""

    name: str
    topic: Topic
    schema: Schema
    table: bool = False
    """Whether its records are upserts and tombstones of a table."""

    inputs: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """A step on the rows of one or several ports."""

    name: str
    step: Step
    inputs: tuple[Port, ...]
    schemas: tuple[Schema, ...]
    """One an output."""


@dataclass(frozen=True, slots=True)
class Repartition:
    """Rows written to an internal topic by key and read again by the task that owns the key."""

    name: str
    inputs: tuple[Port, ...]
    key: tuple[str, ...]
    schema: Schema


@dataclass(frozen=True, slots=True)
class Sink:
    """Rows written to a topic; `key` names the columns the record key is made of (none: no key)."""

    name: str
    topic: Topic
    inputs: tuple[Port, ...]
    key: tuple[str, ...]


Node = Source | Work | Repartition | Sink


@dataclass(slots=True)
class Graph:
    """Nodes by name, in the order they were added; every input of a node was added before it."""

    nodes: dict[str, Node] = field(default_factory=dict)
    globals: dict[str, Topic] = field(default_factory=dict)
    """Topics of global tables, by name: no nodes, since no task reads them."""

    def add(self, node: Node) -> Node:
        """Raises PlanError when the name is taken."""
        if node.name in self.nodes:
            raise PlanError(f"two steps are named {node.name!r}; give one of them another name=")
        self.nodes[node.name] = node
        return node

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def schema(self, port: Port) -> Schema:
        node = self.nodes[port.node]
        if isinstance(node, Work):
            return node.schemas[port.output]
        if isinstance(node, Sink):
            raise PlanError(f"step {node.name!r} is a sink and has no output")
        return node.schema

    def readers(self, port: Port) -> list[tuple[Node, int]]:
        """The nodes that read a port, with the number of the input they read it by."""
        return [(node, index) for node in self for index, source in enumerate(node.inputs) if source == port]

    def source_of(self, topic: str) -> Source | None:
        """The source that reads this topic, if there is one yet."""
        return next((node for node in self if isinstance(node, Source) and node.topic.name == topic), None)


def ports_of(node: Node) -> Sequence[Port]:
    """The outputs of a node."""
    if isinstance(node, Sink):
        return ()
    count = len(node.schemas) if isinstance(node, Work) else 1
    return [Port(node.name, output) for output in range(count)]
