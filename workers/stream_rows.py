"""The fluent face of what looks at rows and columns alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import polars as pl

from ..topics.duration import Duration
from ..topics.schema import ColumnType, Schema
from .attempts import limits_of
from .errors import PlanError
from .graph import Port
from .operator import Step
from .operators.async_filter import AsyncFilter
from .operators.async_flat_map import AsyncFlatMap
from .operators.async_map import AsyncMap
from .operators.branch import Branch
from .operators.filter import Filter
from .operators.flat_map import FlatMap
from .operators.map import Map
from .operators.map_batches import FrameFunction, MapBatches
from .operators.merge import Merge
from .operators.select import Select
from .operators.with_columns import WithColumns
from .stream_base import StreamBase


@dataclass(frozen=True, slots=True)
class StreamRows(StreamBase):
    """Rows to rows, without state."""

    def filter(
        self,
        predicate: pl.Expr | Callable[[dict[str, Any]], bool | Awaitable[bool]],
        *,
        concurrency_max: int | None = None,
        timeout: Duration | None = None,
        retries_max: int | None = None,
        retry_backoff: Duration | None = None,
        name: str | None = None,
    ) -> Self:
        """Keeps the rows for which the polars expression (or the Python function of a row) is true; null is not true.

        An `async def` is awaited, within the limits that `map` has.
        """
        limits = limits_of(
            "filter",
            cast(Any, predicate),
            concurrency_max=concurrency_max,
            timeout=timeout,
            retries_max=retries_max,
            retry_backoff=retry_backoff,
        )
        step: Step = Filter(cast(Any, predicate)) if limits is None else AsyncFilter(cast(Any, predicate), limits)
        return self._kept(step, name)

    def with_columns(self, *, name: str | None = None, **columns: pl.Expr | Any) -> Self:
        """Adds or replaces columns by polars expressions. The event time of the row stays what it was."""
        return self._kept(WithColumns(tuple(columns.items())), name, tuple(columns))

    def select(self, *columns: str | pl.Expr, name: str | None = None, **named: pl.Expr) -> Self:
        """Exactly these columns, in this order."""
        exprs = tuple(pl.col(column) if isinstance(column, str) else column for column in columns)
        computed = [expr.meta.output_name() for expr in exprs if not expr.meta.is_column()]
        step = Select((*exprs, *(expr.alias(alias) for alias, expr in named.items())))
        return self._kept(step, name, (*computed, *named))

    def map(
        self,
        function: Callable[[dict[str, Any]], Mapping[str, Any] | Awaitable[Mapping[str, Any]]],
        *,
        schema: Mapping[str, ColumnType] | Schema | None = None,
        concurrency_max: int | None = None,
        timeout: Duration | None = None,
        retries_max: int | None = None,
        retry_backoff: Duration | None = None,
        name: str | None = None,
    ) -> Self:
        """A Python function of a row (a dict) that gives a row. `schema`: of the rows given; None: as the input's.

        A row for which it raises becomes a dead letter; the others go on. Expressions are about fifty times faster.

        An `async def` is awaited: up to `concurrency_max` (16) rows of a task at once, each attempt `timeout` ("30s") long at
        most, with `retries_max` (3) attempts after the first, after `retry_backoff` ("100ms") and twice as long each time.
        Results come in the order of the rows. Only steps without state may stand before it.
        """
        given = Schema.of(schema) if schema is not None else self.schema
        limits = limits_of(
            "map",
            function,
            concurrency_max=concurrency_max,
            timeout=timeout,
            retries_max=retries_max,
            retry_backoff=retry_backoff,
        )
        step: Step = Map(cast(Any, function), given) if limits is None else AsyncMap(cast(Any, function), given, limits)
        return self.then(step, name=name)

    def flat_map(
        self,
        function: Callable[
            [dict[str, Any]],
            Iterable[Mapping[str, Any]] | Awaitable[Iterable[Mapping[str, Any]]] | AsyncIterator[Mapping[str, Any]],
        ],
        *,
        schema: Mapping[str, ColumnType] | Schema | None = None,
        concurrency_max: int | None = None,
        timeout: Duration | None = None,
        retries_max: int | None = None,
        retry_backoff: Duration | None = None,
        name: str | None = None,
    ) -> Self:
        """As `map`, with any number of rows for each. An `async def` may return them or yield them."""
        given = Schema.of(schema) if schema is not None else self.schema
        limits = limits_of(
            "flat_map",
            function,
            concurrency_max=concurrency_max,
            timeout=timeout,
            retries_max=retries_max,
            retry_backoff=retry_backoff,
        )
        of_rows = cast(Any, function)
        return self.then(FlatMap(of_rows, given) if limits is None else AsyncFlatMap(of_rows, given, limits), name=name)

    def map_batches(
        self,
        function: FrameFunction,
        *,
        schema: Mapping[str, ColumnType] | Schema | None = None,
        name: str | None = None,
    ) -> Self:
        """A Python function of a polars frame that gives one with as many rows, each of them made of that row alone.

        How many rows it is given differs from run to run. Where it raises it is asked again for fewer, and the rows for which it
        raises alone are dead letters. `schema`: of the frame given; None: as the input's.
        """
        return self.then(MapBatches(function, Schema.of(schema) if schema is not None else self.schema), name=name)

    def key_by(self, *columns: str) -> Self:
        """From here on the key is made of these columns; where a step needs equal keys together, a repartition follows."""
        self.check_columns(columns, "key_by")
        return type(self)(self.graph, self.port, self.partitioned_by, columns)

    def branch(self, name: str | None = None, **predicates: pl.Expr) -> dict[str, Self]:
        """Each row to the first predicate that is true for it. Rows for which none is go to the stream `"rest"`."""
        if not predicates or "rest" in predicates:
            raise PlanError(
                "branch needs at least one predicate, as in branch(cheap=pl.col('price') < 10); 'rest' is given"
            )
        step = Branch(tuple(predicates.items()))
        first = self.then(step, name=name, keep_partitioning=True)
        return {
            label: type(self)(self.graph, Port(first.port.node, output), self.partitioned_by, self.key)
            for output, label in enumerate([*predicates, "rest"])
        }

    def merge(self, *others: Self, name: str | None = None) -> Self:
        """The rows of several streams of one schema, in one."""
        streams = (self, *others)
        same = len({stream.partitioned_by for stream in streams}) == 1
        merged = self.then(Merge(), *others, name=name)
        return type(self)(self.graph, merged.port, self.partitioned_by if same else (), self.key)
