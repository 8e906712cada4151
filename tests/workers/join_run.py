"""Drives an interval join as a task would (`operator_run.py`), and sorts what it gives into pairs and padded rows."""

from __future__ import annotations

import random
from collections.abc import Sequence

import polars as pl

from millstream.topics.batch import BEFORE, Batch
from millstream.topics.schema import Schema
from millstream.workers.operators.interval_join import IntervalJoin
from tests.oracles.interval_join import Given, Row
from tests.workers.operator_run import OperatorRun, played, timed

ONE_KEY = Schema.of({"k": "string", "v": "int"})
TWO_KEYS = Schema.of({"k": "string", "n": "int", "v": "int"})


def batch_of(rows: Sequence[Row], schema: Schema = ONE_KEY) -> Batch:
    keys = dict(zip(schema.names, zip(*(row.key for row in rows), strict=True), strict=False))
    frame = pl.DataFrame({**keys, "v": [row.value for row in rows]}, schema=schema.polars())
    return timed(frame, (row.time for row in rows), (row.before for row in rows))


class Run(OperatorRun[Given]):
    """A task with one join."""

    def __init__(self, step: IntervalJoin, schema: Schema = ONE_KEY, *, memory_bytes_max: int | None = None) -> None:
        super().__init__(step, [schema, schema], Given(), lambda rows: batch_of(rows, schema), memory_bytes_max)

    def give_late(self, frame: pl.DataFrame) -> None:
        self.given.late += [v if v is not None else w for v, w in frame.select("v", "v_right").iter_rows()]

    def give(self, frame: pl.DataFrame) -> None:
        assert set(frame[BEFORE]) == {self.passed_on}
        for left, right in frame.select("v", "v_right").iter_rows():
            if left is None:
                self.given.padded[1].append(right)
            elif right is None:
                self.given.padded[0].append(left)
            else:
                self.given.pairs.append((left, right))


def play(events: Sequence[Row | int], run: Run, chance: random.Random, *, crashes: bool) -> Given:
    return played(events, run, chance, crashes=crashes).given.sorted()
