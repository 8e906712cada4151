"""The fluent face of what looks at rows and columns alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import polars as pl

from ..topics.schema import ColumnType, Schema
from .errors import PlanError
from .graph import Port
from .operators.branch import Branch
from .operators.filter import Filter
from .operators.flat_map import FlatMap
from .operators.map import Map
from .operators.merge import Merge
from .operators.select import Select
from .operators.with_columns import WithColumns
from .stream_base import StreamBase


@dataclass(frozen=True, slots=True)
class StreamRows(StreamBase):
    """Rows to rows, without state."""

    def filter(self, predicate: pl.Expr | Callable[[dict[str, Any]], bool], *, name: str | None = None) -> Self:
        """Keeps the rows for which the polars expression (or the Python function of a row) is true; null is not true."""
        return self._kept(Filter(predicate), name)

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
        function: Callable[[dict[str, Any]], Mapping[str, Any]],
        *,
        schema: Mapping[str, ColumnType] | Schema | None = None,
        name: str | None = None,
    ) -> Self:
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
    ) -> Self:
        """As `map`, with any number of rows for each."""
        given = Schema.of(schema) if schema is not None else self.schema
        return self.then(FlatMap(function, given), name=name)

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
