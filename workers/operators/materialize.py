"""Keeps the newest row of each key, so that it can be looked up from outside (`App.table(name)`), and passes everything on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from ...state.rows import NO_ROW, TableState
from ...topics.batch import Batch
from ...topics.schema import Schema
from ..operator import Emit, Operator, StateDefinition
from ..row_bytes import RowBytes
from ..table_rows import put_rows
from ..table_schemas import table_keys


@dataclass(frozen=True, slots=True)
class Materialize:
    """Output 0: the rows that have a key, as they came. `name`: of the store."""

    kind: ClassVar[str] = "materialize"
    key: tuple[str, ...]
    name: str = "table"

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return inputs

    def build(self, inputs: Sequence[Schema]) -> Operator:
        columns = inputs[0].polars()
        return MaterializeOperator(self.key, TableState(self.name, columns, RowBytes(columns)))

    @property
    def table_key(self) -> tuple[str, ...]:
        return self.key

    def describe(self) -> Mapping[str, str]:
        return {"key": ", ".join(self.key)}

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        return StateDefinition({"key": ", ".join(self.key), "table": inputs[0].text()})


class MaterializeOperator(Operator):
    """The running step."""

    def __init__(self, key: tuple[str, ...], state: TableState) -> None:
        self.key = key
        self.state = state
        self.states = (state,)

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        batch, keys, deleted = table_keys(batch, self.key, self.context)
        if not len(batch):
            return ()
        put_rows(self.state, keys, batch, deleted)
        return [Emit(batch)]

    def read_table(self, keys: pl.Series | None) -> pl.DataFrame:
        """See `queries.TableReader`."""
        if keys is None:
            return self.state.scan()[1]
        numbers = self.state.find(keys)
        return self.state.rows(numbers[numbers != NO_ROW])
