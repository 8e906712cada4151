"""Changes of one key that came by different ways, brought into order again: the newest row of each key stays.

Rows carry the number under which `rekey.py` sent them. A row older than the one there is dropped; so is a tombstone that takes away
an older one. A row that was overtaken by its own tombstone is given and taken away again when the tombstone that was sent before it by
the same way arrives; nothing wrong stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.rows import NO_ROW, TableState
from ...topics.batch import Batch
from ...topics.schema import Schema
from ..operator import Emit, Operator, StateDefinition
from ..row_bytes import RowBytes
from ..table_schemas import table_keys
from .rekey import SEQUENCE

_KEPT = {SEQUENCE: pl.Int64()}


@dataclass(frozen=True, slots=True)
class Newest:
    """Output 0: the input's columns without `SEQUENCE`, at most one row a key and batch."""

    kind: ClassVar[str] = "newest"
    key: tuple[str, ...]

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return [Schema(tuple(column for column in inputs[0] if column[0] != SEQUENCE))]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return NewestOperator(self.key, TableState("newest", _KEPT, RowBytes(_KEPT)))

    def describe(self) -> Mapping[str, str]:
        return {"key": ", ".join(self.key)}

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        return StateDefinition({"key": inputs[0].text(self.key)})


class NewestOperator(Operator):
    """The running step."""

    def __init__(self, key: tuple[str, ...], state: TableState) -> None:
        self.key = key
        self.state = state
        self.states = (state,)

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        batch, keys, gone = table_keys(batch, self.key, self.context)
        if not len(batch):
            return ()
        deleted = np.zeros(len(batch), np.bool_) if gone is None else gone.to_numpy()
        told = self._accepted(keys, batch.frame[SEQUENCE].to_numpy(), deleted)
        if not len(told):
            return ()
        frame = batch.frame[told]
        self.state.put(keys[told], frame, deleted[told])
        return [Emit(Batch(frame.drop(SEQUENCE)))]

    def _accepted(self, keys: pl.Series, numbers: NDArray[np.int64], deleted: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Of each key the row that stands at the end, if there is one: the batch is gone through in its order."""
        found = self.state.find(keys)
        known = self.state.rows(found)[SEQUENCE].fill_null(0).to_numpy()
        newest = np.where(found == NO_ROW, 0, known)  # numbers begin at 1
        if keys.n_unique() == len(keys):
            taken = np.where(deleted, (newest > 0) & (numbers >= newest), numbers >= newest)
            return np.flatnonzero(taken)
        return _one_by_one(keys.to_list(), numbers.tolist(), deleted.tolist(), newest.tolist())


def _one_by_one(keys: list[str], numbers: list[int], deleted: list[bool], newest: list[int]) -> NDArray[np.int64]:
    """As for single rows, for a batch with several of one key."""
    there = dict(zip(keys, newest, strict=True))
    last: dict[str, int] = {}
    for at, (key, number, gone) in enumerate(zip(keys, numbers, deleted, strict=True)):
        if number >= there[key] and (there[key] or not gone):
            there[key] = 0 if gone else number
            last[key] = at
    return np.sort(np.array(list(last.values()), np.int64))
