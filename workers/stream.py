"""The fluent face: a `Stream` is a port of the graph; each method adds one node and gives the stream behind it.

Nothing is computed here. What a method promises is said in the step it adds (`operators/`); what results mean, in the
guide. Streams are values: one may be used several times, which gives several branches.

Partitioning is followed by itself: where a step groups or joins by columns the stream is not partitioned by, an internal
repartition topic is put in between, and `describe` shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ..topics.duration import Duration, duration_ms, duration_text
from ..topics.schema import ColumnType, Schema
from ..topics.topic import Topic, topic
from .errors import PlanError
from .graph import Graph, Port, Repartition, Sink, Work
from .grouped_stream import GroupedStream
from .naming import checked, free_name
from .operator import Step
from .operators.branch import Branch
from .operators.filter import Filter
from .operators.flat_map import FlatMap
from .operators.interval_join import How, IntervalJoin
from .operators.map import Map
from .operators.merge import Merge
from .operators.select import Select
from .operators.with_columns import WithColumns
from .window import Window
from .windowed_stream import Emission, WindowedStream

Columns = str | Sequence[str]


def as_names(columns: Columns) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(columns)


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows on their way. Get one from `App.stream(topic)`."""

    graph: Graph
    port: Port
    partitioned_by: tuple[str, ...] = ()
    """Columns of which equal values are known to be in one partition; () where nothing is known."""
    key: tuple[str, ...] = ()
    """Columns the record key is made of when the stream is written."""

    @property
    def schema(self) -> Schema:
        return self.graph.schema(self.port)

    # -- rows and columns

    def filter(self, predicate: pl.Expr | Callable[[dict[str, Any]], bool], *, name: str | None = None) -> Stream:
        """Keeps the rows for which the polars expression (or the Python function of a row) is true; null is not true."""
        return self._kept(Filter(predicate), name)

    def with_columns(self, *, name: str | None = None, **columns: pl.Expr | Any) -> Stream:
        """Adds or replaces columns by polars expressions. The event time of the row stays what it was."""
        return self._kept(WithColumns(tuple(columns.items())), name, tuple(columns))

    def select(self, *columns: str | pl.Expr, name: str | None = None, **named: pl.Expr) -> Stream:
        """Exactly these columns, in this order."""
        exprs = tuple(pl.col(column) if isinstance(column, str) else column for column in columns)
        computed = [expr.meta.output_name() for expr in exprs if not expr.meta.is_column()]
        step = Select((*exprs, *(expr.alias(alias) for alias, expr in named.items())))
        return self._kept(step, name, (*computed, *named))

    def map(
        self,
        function: Callable[[dict[str, Any]], Mapping[str, Any]],
        *,
        schema: Mapping[str, ColumnType] | Schema | None = None,
        name: str | None = None,
    ) -> Stream:
        """A Python function of a row (a dict) that gives a row. `schema`: of the rows given; None: as the input's.

        A row for which it raises becomes a dead letter; the others go on. Expressions are about fifty times faster.
        """
        given = Schema.of(schema) if schema is not None else self.schema
        return self.then(Map(function, given), name=name)

    def flat_map(
        self,
        function: Callable[[dict[str, Any]], Iterable[Mapping[str, Any]]],
        *,
        schema: Mapping[str, ColumnType] | Schema | None = None,
        name: str | None = None,
    ) -> Stream:
        """As `map`, with any number of rows for each."""
        given = Schema.of(schema) if schema is not None else self.schema
        return self.then(FlatMap(function, given), name=name)

    def key_by(self, *columns: str) -> Stream:
        """From here on the key is made of these columns; where a step needs equal keys together, a repartition follows."""
        self._check_columns(columns, "key_by")
        return Stream(self.graph, self.port, self.partitioned_by, columns)

    def branch(self, name: str | None = None, **predicates: pl.Expr) -> dict[str, Stream]:
        """Each row to the first predicate that is true for it. Rows for which none is go to the stream `"rest"`."""
        if not predicates or "rest" in predicates:
            raise PlanError(
                "branch needs at least one predicate, as in branch(cheap=pl.col('price') < 10); 'rest' is given"
            )
        step = Branch(tuple(predicates.items()))
        first = self.then(step, name=name, keep_partitioning=True)
        return {
            label: Stream(self.graph, Port(first.port.node, output), self.partitioned_by, self.key)
            for output, label in enumerate([*predicates, "rest"])
        }

    def merge(self, *others: Stream, name: str | None = None) -> Stream:
        """The rows of several streams of one schema, in one."""
        streams = (self, *others)
        same = len({stream.partitioned_by for stream in streams}) == 1
        merged = self.then(Merge(), *others, name=name)
        return Stream(self.graph, merged.port, self.partitioned_by if same else (), self.key)

    # -- by key

    def group_by(self, *columns: str, name: str | None = None) -> GroupedStream:
        """Groups rows by these columns for good, without windows; `.agg(...)` follows and gives a `Table`.

        `name`: of the step, which keeps its store when steps before it change.
        """
        if not columns:
            raise PlanError("group_by needs a column, as in group_by('user')")
        self._check_columns(columns, "group_by")
        return GroupedStream(self.partitioned(columns), columns, name)

    # -- time

    def window(
        self,
        window: Window,
        *,
        by: Columns,
        grace: Duration | None = None,
        emit: Emission = "update",
        every: Duration | None = None,
        late_to: str | Topic | None = None,
        name: str | None = None,
    ) -> WindowedStream:
        """Groups rows by key and time; `.agg(...)` follows.

        `grace`: how long after its end a window still takes rows (default 0 s; must be said with `emit="final"`).
        `emit`: "update" gives at each commit the net change; "final" gives each window once, when it has closed.
        `every`: a changed window is given at most once in so much event time while it is open, with "final" as with "update".
        `late_to`: a topic for rows that came too late for all their windows, with the reason.
        """
        names = as_names(by)
        self._check_columns(names, "window by=")
        if emit == "final" and grace is None:
            raise PlanError(
                'emit="final" needs grace=, as in grace="5s": a window is given once, so say how long it waits'
            )
        grace_ms = 0 if grace is None else duration_ms(grace, name="grace")
        if grace_ms < 0:
            raise PlanError(f"grace must not be negative, got {grace!r}")
        every_ms = None if every is None else duration_ms(every, name="every")
        if every_ms is not None and every_ms <= 0:
            raise PlanError(
                f"every must be longer than 0, got {duration_text(every_ms)}; leave it out to have none early, or one at each commit"
            )
        return WindowedStream(self.partitioned(names), window, names, grace_ms, emit, late_to, name, every_ms)

    def interval_join(
        self,
        right: Stream,
        *,
        on: Columns,
        lower: Duration,
        upper: Duration,
        how: How = "inner",
        grace: Duration = "0s",
        suffix: str = "_right",
        late_to: str | Topic | None = None,
        name: str | None = None,
    ) -> Stream:
        """Pairs rows of equal `on` columns where `left.t + lower <= right.t <= left.t + upper`, both inclusive.

        To pair a purchase with the views of the five minutes before it, views on the left: `lower="0s", upper="5m"`.
        """
        names = as_names(on)
        for stream, side in ((self, "left"), (right, "right")):
            stream._check_columns(names, f"interval_join, {side} side, on=")
        step = IntervalJoin(
            on=names,
            lower_ms=duration_ms(lower, name="lower"),
            upper_ms=duration_ms(upper, name="upper"),
            how=how,
            grace_ms=duration_ms(grace, name="grace"),
            suffix=suffix,
        )
        joined = self.partitioned(names).then(step, right.partitioned(names), name=name)
        if late_to is not None:
            Stream(self.graph, Port(joined.port.node, 1)).to(late_to)
        return Stream(self.graph, joined.port, names, names)

    # -- out

    def to(self, target: str | Topic, *, key: Columns | None = None, name: str | None = None) -> Topic:
        """Writes the rows to a topic. The record key: `key=`, else the topic's key columns, else the stream's key."""
        written = topic(target, self.schema) if isinstance(target, str) else target
        columns = as_names(key) if key is not None else written.key or self.key
        self._check_columns(columns, f"topic {written.name!r}, key")
        label = checked(name, "step") if name else free_name(f"to-{written.name}", self._taken())
        self.graph.add(Sink(label, written, (self.port,), columns))
        return written

    def then(self, step: Step, *others: Stream, name: str | None = None, keep_partitioning: bool = False) -> Stream:
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
        return Stream(self.graph, Port(label), partitioned, key)

    def output(self, index: int) -> Stream:
        """Another output of the step this stream came from (late rows of a window are its output 1)."""
        self.graph.schema(Port(self.port.node, index))
        return Stream(self.graph, Port(self.port.node, index))

    def partitioned(self, columns: tuple[str, ...]) -> Stream:
        """This stream, or one behind a repartition topic, such that equal values of `columns` are in one partition."""
        if self.partitioned_by and set(self.partitioned_by) <= set(columns):
            return self
        label = free_name("by-" + "-".join(columns), self._taken())
        self.graph.add(Repartition(checked(label, "step"), (self.port,), columns, self.schema))
        return Stream(self.graph, Port(label), columns, columns)

    # -- helpers

    def _kept(self, step: Step, name: str | None, replaced: tuple[str, ...] = ()) -> Stream:
        return self._forgetting(self.then(step, name=name, keep_partitioning=True), replaced)

    def _forgetting(self, stream: Stream, replaced: tuple[str, ...]) -> Stream:
        """What is known of partitions and keys, as far as its columns are still there and were not computed anew."""
        here = [column for column in stream.schema.names if column not in replaced]
        partitioned = self.partitioned_by if set(self.partitioned_by) <= set(here) else ()
        key = self.key if set(self.key) <= set(stream.schema.names) else ()
        return Stream(stream.graph, stream.port, partitioned, key)

    def _check_columns(self, columns: Sequence[str], where: str) -> None:
        for column in columns:
            if column not in self.schema:
                raise PlanError(f"{where}: no column {column!r}. Columns there are: {', '.join(self.schema.names)}")

    def _taken(self) -> dict[str, object]:
        return dict(self.graph.nodes)
