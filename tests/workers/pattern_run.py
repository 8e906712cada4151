"""Drives a step that looks for patterns as a task would (`operator_run.py`)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import polars as pl

from millstream.topics.batch import BEFORE, TIME, Batch
from millstream.topics.schema import Schema
from millstream.workers.operators.deduplicate import Deduplicate
from millstream.workers.operators.followed_by import FollowedBy
from millstream.workers.operators.not_followed_by import NotFollowedBy
from tests.oracles.patterns import Given, Row
from tests.workers.operator_run import OperatorRun, played, timed

ROWS = Schema.of({"k": "string", "v": "int"})
Pattern = Deduplicate | FollowedBy | NotFollowedBy


def batch_of(rows: Sequence[Row]) -> Batch:
    columns = {"k": [row.key for row in rows], "v": [row.value for row in rows]}
    frame = pl.DataFrame(columns, schema=ROWS.polars())
    return timed(frame, (row.time for row in rows), (row.before for row in rows))


class Run(OperatorRun[Given]):
    """A task with one step. `memory_bytes_max`: of rows that wait to be followed; the others are on disk."""

    def __init__(self, step: Pattern, *, memory_bytes_max: int | None = None) -> None:
        inputs = [ROWS] if isinstance(step, Deduplicate) else [ROWS, ROWS]
        super().__init__(step, inputs, Given(), batch_of, memory_bytes_max)

    def give_late(self, frame: pl.DataFrame) -> None:
        both = frame["v"] if "v_next" not in frame.columns else frame["v"].fill_null(frame["v_next"])
        self.given.late += both.to_list()

    def give(self, frame: pl.DataFrame) -> None:
        assert (frame[TIME] >= frame[BEFORE]).all(), "a result is never late for what follows"
        assert (frame[TIME] >= self.passed_on).all(), "a result is never behind what was passed on"
        self.given.results += frame.select("v", "v_next").rows() if "v_next" in frame.columns else frame["v"].to_list()


def play(events: Sequence[Row | int], run: Run, chance: random.Random, *, crashes: bool) -> Given:
    return played(events, run, chance, crashes=crashes).given.sorted()
