"""Rows of a table, each with the row of another table that one of its columns names: orders with their customers.

    left table --rekey by the foreign key--> [ here: all left rows of a key, and the right table ] --newest--> joined, by the left key

It runs where the right table's key is. A left row that changes is joined anew; so are, when a right row changes, all left rows
that name it. At each commit every left key whose joined row changed is given once, with the number its left row was sent under,
so that the step that brings the ways together can tell old from new. `how="left"` keeps left rows whose partner is missing or whose foreign
key is null; with `"inner"` they are absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.rows import NO_ROW
from ...topics.batch import TIME, Batch
from ...topics.key import key_text
from ...topics.schema import Schema
from ..given_at_commits import GivenAtCommits
from ..join_schemas import check_option
from ..operator import Emit, Operator, StateDefinition
from ..table_rows import TableWriter, Touched, put_rows, timed_table
from ..table_schemas import LookUp, table_keys
from .join import HOW, How
from .rekey import SEQUENCE

Flags = NDArray[np.bool_]
_FOREIGN = "__foreign_key"
"""The text of the foreign key, kept with the left rows so that they are found by it; null where it is."""


@dataclass(frozen=True, slots=True)
class ForeignKeyJoin:
    """Input 0: the left table's changes, rekeyed by `on`. Input 1: the right table's. Output 0: as joined, with `SEQUENCE`."""

    kind: ClassVar[str] = "foreign_key_join"
    left_key: tuple[str, ...]
    on: tuple[str, ...]
    right_key: tuple[str, ...]
    how: How = "inner"
    suffix: str = "_right"

    @property
    def look_up(self) -> LookUp:
        return LookUp(self.kind, self.on, self.right_key, self.suffix)

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        check_option(self.kind, "how", self.how, HOW)
        return [self.look_up.columns(*inputs)]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return ForeignKeyJoinOperator(self, inputs)

    def describe(self) -> Mapping[str, str]:
        pairs = ", ".join(f"{a} = {b}" for a, b in zip(self.on, self.right_key, strict=True))
        return {"key": ", ".join(self.left_key), "on": pairs, "how": self.how, "suffix": self.suffix}

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        left, right = inputs
        return StateDefinition({"on": ", ".join(self.on), "how": self.how, "left": left.text(), "right": right.text()})

    def partitioned_by(self, input_index: int) -> tuple[str, ...]:
        return (self.on, self.right_key)[input_index]


class ForeignKeyJoinOperator(GivenAtCommits):
    """The running step."""

    def __init__(self, step: ForeignKeyJoin, inputs: Sequence[Schema]) -> None:
        self.step = step
        self.inputs = inputs
        self.left = timed_table("left", Schema((*inputs[0].columns, (_FOREIGN, pl.String()))))
        self.right = timed_table("right", inputs[1])
        self.states = (self.left, self.right)
        (results,) = step.output_schemas(inputs)
        self.writer = TableWriter(results, step.left_key)
        self.touched = Touched()
        self.numbers: dict[str, int] = {}
        """Of left rows that were taken away: the number that their tombstones must carry."""

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        key = self.step.right_key if input_index else self.step.left_key
        batch, keys, deleted = table_keys(batch, key, self.context)
        if not len(batch):
            return ()
        if input_index:
            self._right_changes(keys, int(batch.time.max()))
            put_rows(self.right, keys, batch, deleted)
        else:
            self.touched.add(keys, self._there(keys), batch.time)
            self._note_numbers(keys, batch, deleted)
            foreign = key_text(batch.frame, self.step.on).alias(_FOREIGN)
            put_rows(self.left, keys, batch.replaced(batch.frame.with_columns(foreign)), deleted)
        return ()

    def _right_changes(self, keys: pl.Series, time: int) -> None:
        """The left rows that name these are touched: what was given of them is known only before the change."""
        numbers = self.left.where(_FOREIGN, keys)
        if len(numbers):
            lefts = key_text(self.left.rows(numbers), self.step.left_key)
            self.touched.add(lefts, self._there(lefts), np.full(len(lefts), time))

    def _note_numbers(self, keys: pl.Series, batch: Batch, deleted: pl.Series | None) -> None:
        if deleted is not None and deleted.any():
            gone = batch.frame.filter(deleted)[SEQUENCE].to_list()
            self.numbers.update(zip(keys.filter(deleted).to_list(), gone, strict=True))

    def flush(self) -> Sequence[Emit]:
        taken = self.touched.take()
        numbers, self.numbers = self.numbers, {}
        if taken is None:
            return ()
        touched, there = taken.told(self._there(taken.keys))
        keys = touched.keys
        rows = self._joined(keys)
        sent = rows[SEQUENCE].to_list()
        told_by = [numbers.get(key, 0) if number is None else number for key, number in zip(keys, sent, strict=True)]
        rows = rows.with_columns(pl.Series(SEQUENCE, told_by, dtype=pl.Int64))
        return self.writer.emits(touched, rows, ~there, self.watermark)

    def _there(self, keys: pl.Series) -> Flags:
        """Whether these left keys have a joined row, as both tables are now."""
        numbers = self.left.find(keys)
        there: Flags = numbers != NO_ROW
        if self.step.how == "inner":
            foreign = self.left.rows(numbers)[_FOREIGN]
            there &= foreign.is_not_null().to_numpy()
            there &= self.right.find(foreign.fill_null("")) != NO_ROW
        return there

    def _joined(self, keys: pl.Series) -> pl.DataFrame:
        left = self.left.get_many(keys)
        numbers = self.right.find(left[_FOREIGN].fill_null(""))
        numbers[left[_FOREIGN].is_null().to_numpy()] = NO_ROW
        right = self.right.rows(numbers)
        frame = left.drop(_FOREIGN).hstack(self.step.look_up.renamed(right, *self.inputs))
        return frame.with_columns(right[TIME].alias(_FOREIGN)).with_columns(
            pl.max_horizontal(TIME, _FOREIGN).alias(TIME)
        )
