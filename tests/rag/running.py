"""Runs an operator that waits as a task does, without one: calls beside each other, outcomes in the order of the rows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from millstream.rag.raw import RAW
from millstream.state.store import Changes
from millstream.topics.batch import BEFORE, OFFSET, TIME, Batch, Partition
from millstream.workers.operator import AsyncOperator, Call, Emit, Step

Record = tuple[bytes | None, bytes | None]


class FakeContext:
    """Counts, and keeps what was rejected."""

    def __init__(self) -> None:
        self.step = "step"
        self.partition = 0
        self.counts: Counter[str] = Counter()
        self.rejected: list[tuple[bytes | None, str]] = []

    def count(self, what: str, amount: int) -> None:
        self.counts[what] += amount

    def reject(self, batch: Batch, rows: Any, reasons: Sequence[str]) -> None:
        self.rejected += [(batch.frame["key"][int(row)], reason) for row, reason in zip(rows, reasons, strict=True)]


class Running:
    """A step's one task. `commit` makes what was done durable, `crash` goes back to the last commit."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.context = FakeContext()
        self.outputs: dict[int, list[Record]] = {}
        self._uncommitted: dict[int, list[Record]] = {}
        self._changelog: dict[str, list[Changes]] = {}
        self._offset = 0
        self.operator: AsyncOperator
        self._start()

    def _start(self) -> None:
        operator = self.step.build([RAW])
        assert isinstance(operator, AsyncOperator)
        for state in operator.states:
            state.restore([], self._changelog.get(state.name, []))
        operator.open(self.context, 0)
        self.operator = operator

    async def process(self, records: Iterable[Record], order: Sequence[int] | None = None) -> None:
        """One batch. `order`: in which order the calls are begun (rows of one key stay in theirs)."""
        batch = self._batch(list(records))
        calls = list(self.operator.submit(batch, 0))
        outcomes = await _ran(calls, order or range(len(calls)))
        for call, outcome in zip(calls, outcomes, strict=True):
            self._give(self.operator.complete(call, outcome))

    def _batch(self, records: list[Record]) -> Batch:
        frame = pl.DataFrame({"key": [k for k, _ in records], "value": [v for _, v in records]}, schema=RAW.polars())
        offsets = np.arange(self._offset, self._offset + len(records))
        self._offset += len(records)
        columns = [pl.Series(TIME, offsets), pl.Series(BEFORE, offsets - 1), pl.Series(OFFSET, offsets)]
        return Batch(frame.with_columns(columns), Partition("in", 0))

    def _give(self, emits: Sequence[Emit]) -> None:
        for emit in emits:
            rows = emit.batch.frame.select("key", "value").rows()
            self._uncommitted.setdefault(emit.output, []).extend(rows)

    def commit(self) -> None:
        for output, records in self._uncommitted.items():
            self.outputs.setdefault(output, []).extend(records)
        self._uncommitted = {}
        for state in self.operator.states:
            self._changelog.setdefault(state.name, []).extend(state.take_changes())

    def crash(self) -> None:
        self._uncommitted = {}
        self.operator.close()
        self._start()

    def compacted(self, output: int) -> dict[bytes, bytes]:
        """The last value by key of an output, as compaction leaves it."""
        last: dict[bytes | None, bytes | None] = dict(self.outputs.get(output, []))
        return {key: value for key, value in last.items() if key is not None and value is not None}


async def _ran(calls: list[Call], order: Sequence[int]) -> list[object]:
    """Every call, those of one key one after another, the others beside each other in the order wanted."""
    outcomes: list[object] = [None] * len(calls)
    chains: dict[object, list[int]] = {}
    for number, call in enumerate(calls):
        chains.setdefault(call.key if call.key is not None else number, []).append(number)
    first = {numbers[0]: numbers for numbers in chains.values()}

    async def run(numbers: list[int]) -> None:
        for number in numbers:
            try:
                outcomes[number] = await calls[number].run()
            except Exception as error:  # noqa: BLE001 - the outcome, as the shell hands it back
                outcomes[number] = error

    await asyncio.gather(*(run(first[number]) for number in order if number in first))
    return outcomes
