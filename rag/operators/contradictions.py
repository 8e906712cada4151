"""Chunks that changed -> contradictions with chunks of other documents that begin and end (output 0).

    input   `key`, `value` of what `changed_chunks` gives, of one partition      output 0   `key`, `value` (`rag/contradiction.py`)

One task holds all pairs, and an index that has passed every change it was told of is what it judges by. So of the two chunks of a
pair the later change always sees both, whichever partitions they come from, and either's end is heard by whoever holds the pair. A
change whose pairs cannot all be judged is a dead letter: those that could be are given all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ...state.key_value import KeyValueState
from ...topics.batch import Batch
from ...topics.schema import Schema
from ...workers.errors import PlanError
from ...workers.operator import AsyncOperator, Call, Context, Emit, StateDefinition
from ..answer_work import AnswerParts
from ..binding import Bind
from ..contradiction import ContradictionSettings, Judge, read_change
from ..contradiction_pairs import Pairs
from ..contradiction_work import CallsAhead, Judging, Work
from ..errors import MessageError, RagError
from ..locked_state import LockedState
from ..parts import part_named
from ..raw import RAW, check_raw, key_and_value, raw_batch
from ..shared import Shared


@dataclass(frozen=True, slots=True)
class Contradictions:
    """The step. `parts`: the index and the model of this process, the same as those of its `answer`."""

    kind: ClassVar[str] = "contradictions"

    settings: ContradictionSettings
    parts: Shared[AnswerParts] = field(compare=False, repr=False)
    bind: Bind = field(compare=False, repr=False)
    """Where the index is read from and kept: see `rag/pipeline.py`."""

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        check_raw(self.kind, inputs)
        return (RAW,)

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        """What was found goes on to hold under another judge, until a text changes."""
        return StateDefinition({"findings": "1", "positions": "1", "completions": "1"})

    def build(self, inputs: Sequence[Schema]) -> ContradictionsRun:
        return ContradictionsRun(self.settings, self.parts)

    def describe(self) -> Mapping[str, str]:
        return {"judge": self.settings.judge.name, "neighbours": str(self.settings.neighbours_max)}


class ContradictionsRun(AsyncOperator):
    """The operator of the one task. State: the findings that hold, the newest change of each partition, what the model said."""

    def __init__(self, settings: ContradictionSettings, shared: Shared[AnswerParts]) -> None:
        self.concurrency_max = settings.concurrency_max
        self.pending_rows_max = settings.pending_rows_max
        findings = KeyValueState("findings")
        self._newest = KeyValueState("positions")
        completions = LockedState("completions")  # read by calls, in the event loop
        self.states = (findings, self._newest, completions)
        self._pairs = Pairs(findings, settings.findings_max)
        self._cache = CallsAhead(completions, settings.cache_entries_max)
        self._settings = settings
        self._judge: Judge = part_named("judge", settings.judge.name, settings.judge.options)
        self._positions: dict[int, int] = {}
        """The newest change that was handed in, by partition of the index's topic."""
        self._lease = shared.lease()

    def open(self, context: Context, watermark: int) -> None:
        super().open(context, watermark)
        if context.partition != 0:
            raise PlanError(
                f"step {context.step!r}: the topic it reads has several partitions and must have one; "
                "stop the app, delete that topic, and let a worker make it"
            )
        self._pairs.open()
        self._positions = {int(key): int(value) for key, value in self._newest.scan_prefix()}
        parts = self._lease.take()
        self._judging = Judging(parts, self._judge, self._settings, self._cache)
        parts.start()

    def close(self) -> None:
        self._lease.give_back()

    def submit(self, batch: Batch, input_index: int) -> Sequence[Call]:
        return [self._call(batch.replaced(batch.frame[row])) for row in range(len(batch))]

    def _call(self, row: Batch) -> Call:
        """Waits for every change before this one too: what one of them ended must not be found again."""
        key, value = key_and_value(row)
        try:
            partition, offset = read_change(value)
            chunk = (key or b"").decode()
        except (MessageError, UnicodeDecodeError) as error:
            failure = MessageError(f"contradictions-changes: {error}")
            return Call(row, lambda: _failed(failure), key)
        self._positions[partition] = offset
        passed = dict(self._positions)
        return Call(row, lambda: self._work(chunk, passed), key)

    async def _work(self, chunk: str, passed: Mapping[int, int]) -> Work:
        self._lease.note_loop()
        return await self._judging.work(chunk, passed)

    def complete(self, call: Call, outcome: object | BaseException) -> Sequence[Emit]:
        if not isinstance(outcome, Work | RagError):
            raise outcome if isinstance(outcome, BaseException) else TypeError(f"no outcome of ours: {outcome!r}")
        if not isinstance(outcome, MessageError):
            partition, offset = read_change(key_and_value(call.row)[1])
            self._newest.put(str(partition).encode(), str(offset).encode())
        if isinstance(outcome, RagError):
            self._reject(call.row, str(outcome))
            return []
        if outcome.failures:
            self._reject(call.row, "; ".join(outcome.failures))
        for entry in outcome.entries:
            self._cache.put(*entry)
        records = self._pairs.revise(outcome.judged)
        self._count(outcome, records)
        return [Emit(raw_batch(call.row, records))] if records else []

    def _reject(self, row: Batch, reason: str) -> None:
        self.context.count("changes_failed", 1)
        self.context.reject(row, np.zeros(1, np.int64), [reason])

    def _count(self, done: Work, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        ended = sum(value is None for _, value in records)
        left_out, self._pairs.left_out = self._pairs.left_out, 0
        counts = {
            "pairs_judged": len(done.judged.pairs),
            "contradictions_found": len(records) - ended,
            "contradictions_ended": ended,
            "contradictions_left_out": left_out,
            "prompt_tokens": done.tokens.prompt,
            "completion_tokens": done.tokens.completion,
        }
        for what, amount in counts.items():
            if amount:
                self.context.count(what, amount)


async def _failed(failure: MessageError) -> Work:
    raise failure
