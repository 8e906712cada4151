"""What joins with tables check before they run, and how their columns are named.

The result has the left's columns, then the table's but for its key, with a suffix where a name is taken. `on` names columns of
the left that correspond, in their order, to the table's key; the names need not be the same.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ..topics.batch import DELETED, Batch
from ..topics.schema import Schema, type_text
from .errors import PlanError
from .gathering import keyed
from .operator import Context


@dataclass(frozen=True, slots=True)
class LookUp:
    """`on`: columns of the left; `key`: of the table, as many. `step`: for errors."""

    step: str
    on: tuple[str, ...]
    key: tuple[str, ...]
    suffix: str = "_right"

    def columns(self, left: Schema, right: Schema) -> Schema:
        """Of the result. Raises PlanError naming what does not fit, and something close."""
        self._check_keys(left, right)
        columns = dict(left)
        for name, renamed in self.names(left, right).items():
            if renamed in columns:
                raise PlanError(
                    f"{self.step}: the table's column {name!r} would be {renamed!r}, which is taken "
                    f"({', '.join(columns)}); rename it before, or choose another suffix than {self.suffix!r}"
                )
            columns[renamed] = dict(right)[name]
        return Schema.of(columns)

    def names(self, left: Schema, right: Schema) -> dict[str, str]:
        """The table's columns that are not its key, and their names in the result."""
        names = [name for name in right.names if name not in self.key]
        return {name: name + self.suffix if name in left else name for name in names}

    def renamed(self, found: pl.DataFrame, left: Schema, right: Schema) -> pl.DataFrame:
        """The table's rows as columns of the result."""
        return found.select(pl.col(name).alias(new) for name, new in self.names(left, right).items())

    def _check_keys(self, left: Schema, right: Schema) -> None:
        if len(self.on) != len(self.key):
            raise PlanError(
                f"{self.step}: on= names {len(self.on)} columns ({', '.join(self.on)}), the table's key has "
                f"{len(self.key)} ({', '.join(self.key)}); name one for each, in their order"
            )
        for column, key in zip(self.on, self.key, strict=True):
            if column not in left:
                close = difflib.get_close_matches(column, left.names, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise PlanError(
                    f"{self.step}: no column {column!r} for the table's key column {key!r}{hint} "
                    f"Columns: {', '.join(left.names)}; say which it is with on="
                )
            kinds = type_text(dict(left)[column]), type_text(dict(right)[key])
            if kinds[0] != kinds[1]:
                raise PlanError(
                    f"{self.step}: column {column!r} is {kinds[0]}, the table's key column {key!r} is {kinds[1]}; cast one"
                )


def table_keys(batch: Batch, key: Sequence[str], context: Context) -> tuple[Batch, pl.Series, pl.Series | None]:
    """Upserts and tombstones that have a key, their key texts, and which are tombstones (None: no row is).

    Rows with a null or a NaN in their key are rejected: a table cannot hold them.
    """
    batch, keys = keyed(batch, key, context, tombstones=True)
    if DELETED not in batch.frame.columns:
        return batch, keys, None
    return batch, keys, batch.frame[DELETED].fill_null(value=False)
