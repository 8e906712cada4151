"""Questions -> answers (output 0) or, where only the chunks were asked for, retrievals (output 1).

    input   `key`, `value` of the queries topic       outputs 0 and 1   `key` (the query's id), `value`

Every question gets exactly one record: an answer, "the documents do not say" (`no_answer`), or what went wrong (`error`). Never
silence, and never a dead letter: whoever asked is waiting. Questions are answered beside each other and given in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ...state.store import Database
from ...topics.batch import Batch
from ...topics.broker import Broker
from ...topics.schema import Schema
from ...workers.operator import AsyncOperator, Call, Context, Emit, StateDefinition
from ..answer_work import Answered, AnswerParts, answered
from ..call_cache import CallCache
from ..document import Answer as AnswerValue
from ..locked_state import LockedState
from ..messages import query_id, write_answer
from ..raw import RAW, check_raw, key_and_value, raw_batch
from ..settings import AnswerSettings
from ..shared import Shared

ANSWERS = 0
RETRIEVALS = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """The step. `parts` are shared by its tasks: one index a process, whatever the number of partitions."""

    kind: ClassVar[str] = "answer"

    settings: AnswerSettings
    parts: Shared[AnswerParts] = field(compare=False, repr=False)
    bind: Callable[[Broker, Callable[[], Database], Path | None], None] = field(compare=False, repr=False)
    """Where the index is read from and kept: see `rag/pipeline.py`."""

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        check_raw(self.kind, inputs)
        return (RAW, RAW)

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        """What a model said is kept with all it depends on in its key: other settings do no harm to it."""
        return StateDefinition({"completions": "1"})

    def build(self, inputs: Sequence[Schema]) -> AnswerRun:
        return AnswerRun(self.settings, self.parts)

    def describe(self) -> Mapping[str, str]:
        return {
            "embedder": self.settings.embedder.name,
            "index": self.settings.view.index.name,
            "reranker": reranker.name if (reranker := self.settings.retrieval.reranker) else "by the embedder",
            "llm": self.settings.llm.name,
            "strategy": self.settings.strategy,
            "k": str(self.settings.retrieval.k),
        }


class AnswerRun(AsyncOperator):
    """The operator of one task. State: what the model said, by what it was asked."""

    def __init__(self, settings: AnswerSettings, shared: Shared[AnswerParts]) -> None:
        completions = LockedState("completions")  # read by calls, in the event loop
        self.states = (completions,)
        self._cache = CallCache(completions, settings.cache_entries_max)
        self.concurrency_max = settings.concurrency_max
        self.pending_rows_max = settings.pending_rows_max
        self._shared = shared

    def open(self, context: Context, watermark: int) -> None:
        super().open(context, watermark)
        self._parts = self._shared.take()
        self._parts.start()

    def close(self) -> None:
        self._shared.give_back()

    def submit(self, batch: Batch, input_index: int) -> Sequence[Call]:
        return [self._call(batch.replaced(batch.frame[row])) for row in range(len(batch))]

    def _call(self, row: Batch) -> Call:
        key, value = key_and_value(row)
        return Call(row, lambda: self._answer(key, value))

    async def _answer(self, key: bytes | None, value: bytes | None) -> Answered:
        self._shared.note_loop()
        return await answered(key, value, self._parts, self._cache)

    def complete(self, call: Call, outcome: object | BaseException) -> Sequence[Emit]:
        key, value = key_and_value(call.row)
        if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
            raise outcome
        if not isinstance(outcome, Answered):
            failed = AnswerValue(query_id(key, value), "", error=f"{type(outcome).__name__}: {outcome}")
            outcome = Answered(failed)
        for entry in outcome.entries:
            self._cache.put(*entry)
        answer = outcome.answer
        self._count(answer)
        output = RETRIEVALS if outcome.retrieval_only else ANSWERS
        record = (key or answer.id.encode() or None, write_answer(answer))
        return [Emit(raw_batch(call.row, [record]), output)]

    def _count(self, answer: AnswerValue) -> None:
        self.context.count("questions_failed" if answer.error else "questions_answered", 1)
        counts = {
            "questions_refused": int(answer.no_answer),
            "model_rounds": answer.rounds,
            "prompt_tokens": answer.tokens.prompt,
            "completion_tokens": answer.tokens.completion,
        }
        for what, amount in counts.items():
            if amount:
                self.context.count(what, amount)
