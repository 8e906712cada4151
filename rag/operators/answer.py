"""Questions -> answers (output 0) or, where only the chunks were asked for, retrievals (output 1).

    input   `key`, `value` of the queries topic       outputs 0 and 1   `key` (the query's id), `value`

A standing question (`mode`: standing) is kept, and answered again when its documents change; then a record comes only if the answer
is another one. A record with its key and no value ends it, and leaves a record without a value in the answers.

Every other question gets exactly one record: an answer, "the documents do not say" (`no_answer`), or what went wrong (`error`). Never
silence, and never a dead letter: whoever asked is waiting. Questions are answered beside each other and given in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from ...state.key_value import KeyValueState
from ...topics.batch import TIME, Batch
from ...topics.schema import Schema
from ...workers.operator import AsyncOperator, Call, Context, Emit, StateDefinition
from ..answer_work import Answered, AnswerParts, answered
from ..binding import Bind
from ..call_cache import CallCache
from ..conversation import Conversations, RecentTurns, Turn, Turns, recent
from ..document import Answer as AnswerValue
from ..document_topics import DocumentTopics
from ..locked_state import LockedState
from ..messages import Query, query_id, stream_of, write_answer, write_query
from ..raw import RAW, check_raw, key_and_value, raw_batch
from ..settings import AnswerSettings
from ..shared import Shared
from ..standing import Standing, revised

ANSWERS = 0
RETRIEVALS = 1
_ENDED: Final = AnswerValue("", "")
"""Nobody wants to know any more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The step. `parts` are shared by its tasks: one index a process, whatever the number of partitions."""

    kind: ClassVar[str] = "answer"

    settings: AnswerSettings
    parts: Shared[AnswerParts] = field(compare=False, repr=False)
    bind: Bind = field(compare=False, repr=False)
    """Where the index is read from and kept: see `rag/pipeline.py`."""
    topics: DocumentTopics | None = field(default=None, compare=False, repr=False)
    """Of its pipeline, for who stands before it (`ops/gateway`)."""

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        check_raw(self.kind, inputs)
        return (RAW, RAW)

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        """What a model said is kept with all it depends on in its key: other settings do no harm to it."""
        return StateDefinition({"completions": "1", "standing": "1", "conversations": "1"})

    def build(self, inputs: Sequence[Schema]) -> AnswerRun:
        return AnswerRun(self.settings, self.parts)

    async def closed(self) -> None:
        """Until what its tasks shared, and have all given back, is closed."""
        await self.parts.closed()

    def describe(self) -> Mapping[str, str]:
        return {
            "embedder": self.settings.embedder.name,
            "index": self.settings.view.index.name,
            "ranking": self.settings.retrieval.ranking.name,
            "reranker": reranker.name if (reranker := self.settings.retrieval.reranker) else "by the embedder",
            "llm": self.settings.llm.name,
            "strategy": self.settings.strategy,
            "k": str(self.settings.retrieval.k),
        }


class AnswerRun(AsyncOperator):
    """The operator of one task. State: what the model said, by what it was asked."""

    def __init__(self, settings: AnswerSettings, shared: Shared[AnswerParts]) -> None:
        completions = LockedState("completions")  # read by calls, in the event loop
        self._standing = KeyValueState("standing")
        conversations = KeyValueState("conversations")
        self._conversations = Conversations(conversations, settings.conversation)
        self._recent = RecentTurns()
        self._conversation = settings.conversation
        self.states = (completions, self._standing, conversations)
        self._standing_max = settings.standing_max
        self._cache = CallCache(completions, settings.cache_entries_max)
        self.concurrency_max = settings.concurrency_max
        self.pending_rows_max = settings.pending_rows_max
        self._lease = shared.lease()

    def open(self, context: Context, watermark: int) -> None:
        super().open(context, watermark)
        self._conversations.open()
        self._parts = self._lease.take()
        self._parts.start()
        kept = [(key, Standing.from_bytes(value)) for key, value in self._standing.scan_prefix()]
        self._standing_count = len(kept)
        for key, standing in kept:
            self._parts.standing.put((context.partition, key), standing)

    def close(self) -> None:
        if self._lease.is_held:
            self._parts.standing.forget(self.context.partition)
        self._lease.give_back()

    def submit(self, batch: Batch, input_index: int) -> Sequence[Call]:
        return [self._call(batch.replaced(batch.frame[row])) for row in range(len(batch))]

    def _call(self, row: Batch) -> Call:
        """Questions of one conversation wait for each other: what one is understood by is the answer before it."""
        key, value = key_and_value(row)
        stream = stream_of(value)
        if stream is None:
            return Call(row, lambda: self._answer(key, value), key)
        conversation, time_ms = stream.encode(), int(row.frame[TIME][0])
        held = self._recent.began(conversation, self._conversations.turns(conversation))
        return Call(row, lambda: self._answer_in(conversation, key, value, held, time_ms), conversation)

    async def _answer(self, key: bytes | None, value: bytes | None, turns: Turns = ()) -> Answered:
        self._lease.note_loop()
        return await answered(key, value, self._parts, self._cache, turns)

    async def _answer_in(
        self, conversation: bytes, key: bytes | None, value: bytes | None, held: Turns, time_ms: int
    ) -> Answered:
        turns = recent(self._recent.turns(conversation, held), time_ms, self._conversation)
        outcome = await self._answer(key, value, turns)
        if outcome.turn is not None:
            self._recent.told(conversation, (*turns, Turn(*outcome.turn, time_ms)))
        return outcome

    def _conversed(self, row: Batch, value: bytes | None, outcome: Answered) -> None:
        stream = stream_of(value)
        if stream is None:
            return
        self._recent.ended(stream.encode())
        if outcome.turn is not None:
            self._conversations.add(stream.encode(), Turn(*outcome.turn, int(row.frame[TIME][0])))

    def complete(self, call: Call, outcome: object | BaseException) -> Sequence[Emit]:
        key, value = key_and_value(call.row)
        if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
            raise outcome
        if not isinstance(outcome, Answered):
            failed = AnswerValue(query_id(key, value), "", error=f"{type(outcome).__name__}: {outcome}")
            outcome = Answered(failed)
        self._conversed(call.row, value, outcome)
        for entry in outcome.entries:
            self._cache.put(*entry)
        answer = self._published(key, value, outcome)
        if answer is None:
            return []
        if answer is _ENDED:
            return [Emit(raw_batch(call.row, [(key, None)]), ANSWERS)]
        self._count(answer)
        output = RETRIEVALS if outcome.retrieval_only else ANSWERS
        own = outcome.query is not None and outcome.query.stream is not None
        record = ((None if own else key) or answer.id.encode() or key, write_answer(answer))
        return [Emit(raw_batch(call.row, [record]), output)]

    def _published(self, key: bytes | None, value: bytes | None, outcome: Answered) -> AnswerValue | None:
        """The answer as it is to be given; None: nothing is."""
        held = None if key is None else self._standing.get(key)
        if key is not None and held is not None and (value is None or (outcome.query and not outcome.query.standing)):
            self._end(key)
            return _ENDED if value is None else outcome.answer
        if key is None or outcome.query is None or not outcome.query.standing:
            return outcome.answer
        known = None if held is None else Standing.from_bytes(held)
        return self._stand(key, outcome.query, known, outcome)

    def _end(self, key: bytes) -> None:
        self._standing.delete(key)
        self._standing_count -= 1
        self._parts.standing.drop((self.context.partition, key))

    def _stand(self, key: bytes, query: Query, held: Standing | None, outcome: Answered) -> AnswerValue | None:
        if held is None and not query.again and self._standing_count >= self._standing_max:
            error = f"there are {self._standing_max} standing questions already (standing_max, per task)"
            return replace(outcome.answer, answer=None, error=error)
        asks = write_query(replace(query, again=False, fresh_after={}))
        become = revised(held, outcome.answer, asks, outcome.shown, again=query.again)
        kept = become.held or held
        if become.held is not None:
            self._standing_count += held is None
            self._standing.put(key, become.held.to_bytes())
        if kept is not None:
            self._parts.standing.put((self.context.partition, key), kept, failed=outcome.answer.error is not None)
        if query.again:
            self.context.count("standing_revised" if become.answer else "standing_unchanged", 1)
        return become.answer

    def _count(self, answer: AnswerValue) -> None:
        self.context.count("questions_failed" if answer.error else "questions_answered", 1)
        counts = {
            "questions_refused": int(answer.no_answer),
            "model_rounds": answer.rounds,
            "understanding_failures": int(answer.understanding_failure is not None),
            "reranker_failures": int(answer.reranker_failure is not None),
            "prompt_tokens": answer.tokens.prompt,
            "completion_tokens": answer.tokens.completion,
            **self._parts.endpoint_counts.take(),
            **self._parts.shard_counts(answer),
        }
        for what, amount in counts.items():
            if amount:
                self.context.count(what, amount)
