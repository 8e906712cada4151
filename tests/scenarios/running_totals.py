"""A step that counts record by record: number and sum of each user's orders so far, one row out for one row in.

What it gives depends on every record before, so a record that was lost, done twice or done out of order shows in every
later row of its user. That is what the judge recomputes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from millstream.state.key_value import KeyValueState
from millstream.topics.batch import Batch
from millstream.topics.schema import Schema
from millstream.workers.operator import Emit, Operator

STORE = "totals"


@dataclass(frozen=True, slots=True)
class RunningTotals:
    """Adds the columns `n` and `total`; reads `user` and `amount`."""

    kind: ClassVar[str] = "running_totals"

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        return [Schema.of({**dict(inputs[0]), "n": "int", "total": "int"})]

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return _RunningTotals()

    def describe(self) -> Mapping[str, str]:
        return {}


class _RunningTotals(Operator):
    """The state is `b"<n> <total>"` by user: one that reads through to its store."""

    def __init__(self) -> None:
        self.totals = KeyValueState(STORE)
        self.states = (self.totals,)

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        rows = [self._add(user.encode(), amount) for user, amount in batch.frame.select("user", "amount").iter_rows()]
        counted = pl.DataFrame(rows, schema={"n": pl.Int64, "total": pl.Int64}, orient="row")
        return [Emit(batch.replaced(batch.frame.hstack(counted)))]

    def _add(self, user: bytes, amount: int) -> tuple[int, int]:
        before = self.totals.get(user) or b"0 0"
        n, total = (int(number) for number in before.split())
        self.totals.put(user, b"%d %d" % (n + 1, total + amount))
        return n + 1, total + amount
