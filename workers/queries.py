"""Reading the tables of an app that runs here: interactive queries.

    totals = app.table("totals")            # the name of the step that keeps it, or of the topic it is written to
    totals.get("ada")                       # {"user": "ada", "n": 3}, or None
    totals.range("a", "c")                  # rows by key, ascending

What is read is the state of the steps as it is now, from memory: it may be ahead of what has been committed, by at most a commit
interval. A worker knows the keys of the partitions it owns; of a key that may be elsewhere it says so (`NotHereError`). Every
method may be called from any thread and waits while a batch is worked on, a few milliseconds; in a coroutine, use
`await asyncio.to_thread(totals.get, "ada")`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import polars as pl

from ..topics.key import key_text
from ..topics.schema import Schema
from .errors import NotHereError, PlanError
from .graph import Graph, Sink, Work
from .operator import AsyncOperator, Operator
from .task import TaskId

T = TypeVar("T")

Read = Callable[[TaskId, Operator | AsyncOperator], T]


class Running(Protocol):
    """What runs an app: a `Worker`, or a `Driver`."""

    def read(self, step: str, read: Read[T]) -> tuple[list[T], list[int]]:
        """`read` of every task that runs the step here, nothing else at work on it; and the partitions that are not here."""
        ...


@runtime_checkable
class HoldsTable(Protocol):
    """A step whose operators can be read."""

    @property
    def table_key(self) -> tuple[str, ...]:
        """The key columns of its rows."""
        ...


@runtime_checkable
class TableReader(Protocol):
    """An operator of such a step."""

    def read_table(self, keys: pl.Series | None) -> pl.DataFrame:
        """The rows of these key texts, in any order, without those that are not there; None: all rows."""
        ...


@dataclass(slots=True)
class Tables:
    """What runs of an app in this process, and its tables by name. Part of an `App`."""

    running: list[Running] = field(default_factory=list)

    def find(self, app: str, graph: Graph, name: str) -> TableView:
        """Raises PlanError for a name that nothing readable has."""
        known = dict(_readable(graph))
        if name not in known:
            told = ", ".join(known) or "none; name one by to_table(name=...), materialized(name) or .to(<topic>)"
            raise PlanError(f"app {app!r} keeps no table {name!r} that can be read. There are: {told}")
        return TableView(app, name, known[name], self)


def _readable(graph: Graph) -> Iterable[tuple[str, Work]]:
    for node in graph:
        if isinstance(node, Work) and isinstance(node.step, HoldsTable):
            yield node.name, node
        elif isinstance(node, Sink) and len(node.inputs) == 1 and node.inputs[0].output == 0:
            source = graph.nodes[node.inputs[0].node]
            if isinstance(source, Work) and isinstance(source.step, HoldsTable):
                yield node.topic.name, source


@dataclass(frozen=True, slots=True)
class TableView:
    """A table to be read: get it from `App.table(name)`, before or while the app runs.

    Keys are given as the value of the key's column, or of several columns as a tuple in their order.
    """

    app: str
    name: str
    work: Work
    tables: Tables

    @property
    def schema(self) -> Schema:
        return self.work.schemas[0]

    @property
    def key(self) -> tuple[str, ...]:
        step = self.work.step
        assert isinstance(step, HoldsTable), "found by that"
        return step.table_key

    def get(self, key: Any) -> dict[str, Any] | None:
        """The row of a key, None where there is none. Raises NotHereError where only another worker can know."""
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[Any]) -> list[dict[str, Any] | None]:
        """In the order of `keys`. Raises NotHereError as `get`, PlanError for a key that does not fit the key's columns."""
        texts = key_text(self._frame(keys), self.key)
        if texts.null_count():
            raise PlanError(f"table {self.name!r}: a key of ({', '.join(self.key)}) cannot be null, got {list(keys)}")
        frames, elsewhere = self._read(texts)
        rows = pl.concat(frames) if frames else self.schema.empty()
        found = dict(zip(key_text(rows, self.key).to_list(), rows.to_dicts(), strict=True))
        missing = [key for key, text in zip(keys, texts, strict=True) if text not in found]
        if missing and elsewhere:
            raise NotHereError(
                f"table {self.name!r}: nothing is known here of the key {missing[0]!r}, which may be in a partition that another "
                f"worker of {self.app!r} owns or that is just being restored ({', '.join(map(str, elsewhere))}); ask there, "
                f"or read the topic the table is written to"
            )
        return [found.get(text) for text in texts]

    def range(self, start: Any = None, stop: Any = None, *, rows_max: int = 10_000) -> pl.DataFrame:
        """The rows here with `start <= key < stop`, ascending by key, at most `rows_max`; None: no bound.

        Rows of partitions that other workers own are not among them: `elsewhere` tells which these are.
        """
        frames, _ = self._read(None)
        rows = pl.concat(frames) if frames else self.schema.empty()
        for bound, keep in ((start, _at_least), (stop, _below)):
            if bound is not None:
                rows = rows.filter(keep(self.key, self._frame([bound]).row(0)))
        return rows.sort(self.key).head(rows_max)

    def elsewhere(self) -> list[int]:
        """Partitions of the table that are not readable here now."""
        return self._read(pl.Series([], dtype=pl.String))[1]

    def _read(self, keys: pl.Series | None) -> tuple[list[pl.DataFrame], list[int]]:
        if not self.tables.running:
            raise NotHereError(f"table {self.name!r}: app {self.app!r} does not run in this process; run it, then ask")

        def read(_task: TaskId, operator: Operator | AsyncOperator) -> pl.DataFrame:
            assert isinstance(operator, TableReader), "its step says so"
            return operator.read_table(keys)

        parts = [running.read(self.work.name, read) for running in self.tables.running]
        frames = [frame for found, _ in parts for frame in found if frame.height]
        missing = set.intersection(*({*partitions} for _, partitions in parts))
        return frames, sorted(missing)

    def _frame(self, keys: Sequence[Any]) -> pl.DataFrame:
        kinds = dict(self.schema)
        rows = [key if isinstance(key, tuple) else (key,) for key in keys]
        try:
            if any(len(row) != len(self.key) for row in rows):
                raise ValueError(f"expected {len(self.key)} values a key")
            cells = {name: [row[number] for row in rows] for number, name in enumerate(self.key)}
            return pl.DataFrame([pl.Series(name, cells[name], dtype=kinds[name], strict=True) for name in self.key])
        except (ValueError, TypeError, OverflowError, pl.exceptions.PolarsError) as error:
            told = ", ".join(f"{name}: {kinds[name]}" for name in self.key)
            raise PlanError(f"table {self.name!r}: keys are ({told}), got {list(keys)!r}: {error}") from error


def _at_least(columns: Sequence[str], bound: Sequence[Any]) -> pl.Expr:
    """Column by column, as tuples are compared."""
    return ~_below(columns, bound)


def _below(columns: Sequence[str], bound: Sequence[Any]) -> pl.Expr:
    below = pl.lit(value=False)
    for name, value in reversed(list(zip(columns, bound, strict=True))):
        below = (pl.col(name) < value) | ((pl.col(name) == value) & below)
    return below
