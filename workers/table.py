"""The fluent face of tables: one row a key, and a stream of what changes in it.

A `Table` is what `App.table(topic)` reads, what `Stream.group_by(...).agg(...)` and `Stream.to_table(...)` make, and what a table becomes
by the methods here. As with streams nothing is computed here; what a method promises is said in the step it adds. A table is kept
only where a step must look into it (a join, a group), or where `materialized` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ..topics.schema import Schema
from ..topics.topic import Topic, topic
from .errors import PlanError
from .grouped_table import GroupedTable
from .operators.foreign_key_join import ForeignKeyJoin
from .operators.materialize import Materialize
from .operators.newest import Newest
from .operators.rekey import Rekey
from .operators.table_filter import TableFilter
from .operators.table_join import How, TableJoin
from .stream_base import Columns, as_names

if TYPE_CHECKING:
    from .stream import Stream


@dataclass(frozen=True, slots=True)
class Table:
    """`key`: the columns of which each value has one row."""

    _changes: Stream
    key: tuple[str, ...]

    @property
    def schema(self) -> Schema:
        return self._changes.schema

    def changes(self) -> Stream:
        """What changes as a stream: upserts, and tombstones for rows that are gone, of which only the key counts."""
        return self._changes

    def to(self, target: str | Topic, *, name: str | None = None) -> Topic:
        """Writes the changes, keyed by the table's key. A topic named by text is made compacted: it holds the newest row of each key.

        Raises PlanError for a topic with another key: its newest records would not be the table.
        """
        written = topic(target, self.schema, key=self.key, cleanup="compact") if isinstance(target, str) else target
        if written.key and written.key != self.key:
            raise PlanError(
                f"topic {written.name!r} has the key ({', '.join(written.key)}), the table has ({', '.join(self.key)}); "
                "leave the topic's key out, or write .changes() to it"
            )
        return self._changes.to(written, key=self.key, name=name)

    # -- rows and columns

    def filter(self, predicate: pl.Expr, *, name: str | None = None) -> Table:
        """The rows for which the expression is true; one that no longer is so is taken away."""
        kept = self._changes.then(TableFilter(predicate), name=name, keep_partitioning=True)
        return self._with(kept)

    def with_columns(self, *, name: str | None = None, **columns: pl.Expr | Any) -> Table:
        """Adds or replaces columns by polars expressions. The key's columns stay as they are."""
        self._check_key("with_columns", [column for column in self.schema.names if column not in columns])
        return self._with(self._changes.with_columns(name=name, **columns))

    def select(self, *columns: str | pl.Expr, name: str | None = None, **named: pl.Expr) -> Table:
        """Exactly these columns, the key's among them."""
        plain = [column if isinstance(column, str) else column.meta.output_name() for column in columns]
        self._check_key("select", plain)
        return self._with(self._changes.select(*columns, name=name, **named))

    def materialized(self, name: str) -> Table:
        """Keeps the rows in a store of this name: `app.table(name)` reads them from a running app."""
        kept = self._changes.partitioned(self.key).then(Materialize(self.key), name=name, keep_partitioning=True)
        return self._with(kept)

    # -- with others

    def join(
        self,
        other: Table,
        *,
        on: Columns | None = None,
        how: How = "inner",
        suffix: str = "_right",
        name: str | None = None,
    ) -> Table:
        """Each row with the other table's row: of the same key, or with `on` of the key that these columns name (a foreign key).

        `how`: "inner", "left", and without `on` "outer". The result has this table's key, and follows both sides.
        """
        columns = self.key if on is None else as_names(on)
        if columns == self.key and len(self.key) == len(other.key):
            step = TableJoin(self.key, other.key, how, suffix)
            left = self._changes.partitioned(self.key)
            joined = left.then(step, other._changes.partitioned(other.key), name=name)
            return self._at(joined, self.key)
        return self._joined_by_foreign_key(other, columns, how, suffix, name)

    def _joined_by_foreign_key(
        self, other: Table, on: tuple[str, ...], how: How, suffix: str, name: str | None
    ) -> Table:
        if how == "outer":
            raise PlanError("join: a foreign-key join is 'inner' or 'left': a row that nobody names has no key here")
        step = ForeignKeyJoin(self.key, on, other.key, how, suffix)
        left = self._sent_by(on, name)
        joined = left.then(step, other._changes.partitioned(other.key), name=name)
        here = joined.partitioned(self.key)
        return self._at(here.then(Newest(self.key), name=name and f"{name}-newest"), self.key)

    def group_by(self, *columns: str, name: str | None = None) -> GroupedTable:
        """Groups the table's rows; `.agg(...)` follows and gives a table that follows this one, down as well as up."""
        if not columns:
            raise PlanError("group_by needs a column, as in group_by('city')")
        self._changes.check_columns(columns, "group_by")
        return GroupedTable(self._sent_by(columns, name), self.key, columns, name)

    # -- helpers

    def _sent_by(self, columns: tuple[str, ...], name: str | None) -> Stream:
        """The changes where the tasks are that own these columns."""
        rekeyed = self._changes.partitioned(self.key).then(Rekey(self.key, columns), name=name and f"{name}-rekey")
        return rekeyed.partitioned(columns)

    def _with(self, changes: Stream) -> Table:
        return Table(type(changes)(changes.graph, changes.port, changes.partitioned_by, self.key), self.key)

    def _at(self, changes: Stream, key: tuple[str, ...]) -> Table:
        return Table(type(changes)(changes.graph, changes.port, key, key), key)

    def _check_key(self, what: str, kept: Sequence[str]) -> None:
        for column in self.key:
            if column not in kept:
                raise PlanError(
                    f"{what}: {column!r} is of the table's key ({', '.join(self.key)}) and has to stay as it is"
                )
