"""What every stream is and can do, whatever steps it offers: a port of the graph, and what is known of its partitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import polars as pl

from ..topics.schema import Schema
from ..topics.topic import Topic, topic
from .errors import PlanError
from .graph import Graph, Port, Repartition, Sink, Work
from .naming import checked, free_name
from .operator import Step

Columns = str | Sequence[str]


def as_names(columns: Columns) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(columns)


@dataclass(frozen=True, slots=True)
class StreamBase:
    """Rows on their way."""

    graph: Graph
    port: Port
    partitioned_by: tuple[str, ...] = ()
    """Columns of which equal values are known to be in one partition; () where nothing is known."""
    key: tuple[str, ...] = ()
    """Columns the record key is made of when the stream is written."""

    @property
    def schema(self) -> Schema:
        return self.graph.schema(self.port)

    def to(self, target: str | Topic, *, key: Columns | None = None, name: str | None = None) -> Topic:
        """Writes the rows to a topic. The record key: `key=`, else the topic's key columns, else the stream's key."""
        written = topic(target, self.schema) if isinstance(target, str) else target
        columns = as_names(key) if key is not None else written.key or self.key
        self.check_columns(columns, f"topic {written.name!r}, key")
        label = checked(name, "step") if name else free_name(f"to-{written.name}", self._taken())
        self.graph.add(Sink(label, written, (self.port,), columns))
        return written

    def then(self, step: Step, *others: StreamBase, name: str | None = None, keep_partitioning: bool = False) -> Self:
        """The escape hatch by which every built-in is written too: any `Step` on this stream (and others)."""
        for other in others:
            if other.graph is not self.graph:
                raise PlanError(f"{step.kind}: the streams belong to two different apps")
        ports = (self.port, *(other.port for other in others))
        label = checked(name, "step") if name else free_name(step.kind, self._taken())
        try:
            schemas = tuple(step.output_schemas([self.graph.schema(port) for port in ports]))
        except pl.exceptions.PolarsError as error:
            raise PlanError(
                f"step {label!r} ({step.kind}): {error}. Columns there are: {', '.join(self.schema.names)}"
            ) from error
        self.graph.add(Work(label, step, ports, schemas))
        partitioned, key = (self.partitioned_by, self.key) if keep_partitioning else ((), ())
        return type(self)(self.graph, Port(label), partitioned, key)

    def output(self, index: int) -> Self:
        """Another output of the step this stream came from (late rows of a window are its output 1)."""
        self.graph.schema(Port(self.port.node, index))
        return type(self)(self.graph, Port(self.port.node, index))

    def partitioned(self, columns: tuple[str, ...]) -> Self:
        """This stream, or one behind a repartition topic, such that equal values of `columns` are in one partition."""
        if self.partitioned_by and set(self.partitioned_by) <= set(columns):
            return self
        label = free_name("by-" + "-".join(columns), self._taken())
        self.graph.add(Repartition(checked(label, "step"), (self.port,), columns, self.schema))
        return type(self)(self.graph, Port(label), columns, columns)

    # -- helpers

    def _kept(self, step: Step, name: str | None, replaced: tuple[str, ...] = ()) -> Self:
        return self._forgetting(self.then(step, name=name, keep_partitioning=True), replaced)

    def _forgetting(self, stream: Self, replaced: tuple[str, ...]) -> Self:
        """What is known of partitions and keys, as far as its columns are still there and were not computed anew."""
        here = [column for column in stream.schema.names if column not in replaced]
        partitioned = self.partitioned_by if set(self.partitioned_by) <= set(here) else ()
        key = self.key if set(self.key) <= set(stream.schema.names) else ()
        return type(self)(stream.graph, stream.port, partitioned, key)

    def check_columns(self, columns: Sequence[str], where: str) -> None:
        for column in columns:
            if column not in self.schema:
                raise PlanError(f"{where}: no column {column!r}. Columns there are: {', '.join(self.schema.names)}")

    def _taken(self) -> dict[str, object]:
        return dict(self.graph.nodes)
