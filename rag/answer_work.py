"""One question, from its record to its answer: the part of answering that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from .ask import Asking, Entries, Told
from .call_cache import CallCache
from .conversation import Turns
from .document import Answer
from .drafts import Drafts
from .embedder import Embedder
from .endpoint_counts import CountsSince
from .errors import IndexUnavailableError, MessageError, RagError
from .filters import filter_of
from .llm import Said
from .messages import Query, query_id, read_query
from .paid_calls import PaidCalls
from .retrieve import Retriever
from .settings import AnswerSettings
from .sharded_index import ShardedIndex, Sought
from .standing import signature
from .standing_work import NoStandingQuestions, Send, StandingQuestions
from .view import IndexView


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and whether the question was one for the chunks alone."""

    answer: Answer
    retrieval_only: bool = False
    entries: Entries = ()
    """For the cache of calls: what the model said, where it was asked."""
    query: Query | None = None
    """None: it could not be read."""
    shown: str = ""
    """Signature of the hits, of a standing question."""
    turn: tuple[str, str] | None = None
    """Of a conversation: the question as it was understood, and its answer."""


Heard = Callable[[str, str], None]
"""Is told (the query's id, a piece of its answer), in the event loop; it must not wait. What counts is the answer that is published:
a question that is answered anew after a crash, or asked again, is heard again.
"""


class AnswerParts:
    """What all tasks of a process share: the view with its index, the embedder, the model.

    `start` runs the view until `close`, in `loop` when it is called from another thread (tasks are opened in one). Raises PartError for
    parts that cannot be.
    """

    def __init__(
        self,
        settings: AnswerSettings,
        open_view: Callable[[Embedder], IndexView],
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop | None = None,
        earlier_closed: Callable[[], Awaitable[None]] | None = None,
        *,
        ask_again: Send | None = None,
        paid: PaidCalls | None = None,
        paid_embeddings: PaidCalls | None = None,
        heard: Sequence[Heard] = (),
        sharded: ShardedIndex | None = None,
        drafts: Drafts | None = None,
    ) -> None:
        """`sharded`: the index is elsewhere, in shards, and no view is opened here. `drafts`: tells answers while they are made, to who
        asked for that.
        """
        self.settings = settings
        self.clock = clock
        self.heard = heard
        """Who hears answers while they are made; none: models are asked for the whole at once."""
        self.drafts = drafts
        self._loop = loop
        self._earlier_closed = earlier_closed
        self._is_closed = False
        self._paid = paid
        self.asking = Asking(settings, paid=paid, paid_embeddings=paid_embeddings)
        asked = {"llm": self.asking.llm, "reranker": self.asking.reranker, "embedder": self.asking.embedder}
        self.endpoint_counts = CountsSince(asked)
        self.sharded = sharded
        self._view = None if sharded is not None else open_view(self.asking.embedder)
        self.standing: StandingQuestions | NoStandingQuestions = (
            NoStandingQuestions()
            if self._view is None
            else StandingQuestions(self.asking, self._view, self.retriever, ask_again or _nobody)
        )
        self._running: asyncio.Task[None] | None = None
        self._beside: list[asyncio.Task[None]] = []
        self._retriever: Retriever | None = None

    def start(self) -> None:
        """A second call does nothing. Where no event loop is known yet, the first question starts the view."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self.start)
            return
        if self._running is None and not self._is_closed:
            self._running = loop.create_task(self._run())
            self._beside = [loop.create_task(self.standing.run())]
            if self._paid is not None:
                self._beside.append(loop.create_task(self._paid.run()))
            if self.drafts is not None:
                self._beside.append(loop.create_task(self.drafts.run()))

    async def _run(self) -> None:
        """After a rebalance that took every task and gave some back, the view before this one still holds the database."""
        if self._earlier_closed is not None:
            await self._earlier_closed()
        await (self.view.run() if self.sharded is None else self.sharded.asker.run())

    @property
    def view(self) -> IndexView:
        """The whole index, in this process. Raises IndexUnavailableError where it is in shards."""
        if self._view is None:
            raise IndexUnavailableError("the index is in shards: no process holds the whole of it")
        return self._view

    def shard_counts(self, answer: Answer) -> dict[str, int]:
        """Answers for which shards were missing, and replies that were of no use."""
        if self.sharded is None:
            return {}
        return {"answers_incomplete": int(bool(answer.missing_shards)), **self.sharded.asker.take_counts()}

    def positions(self) -> dict[int, int]:
        """Next offset by partition, as far as this process knows."""
        return {} if self._view is None else self._view.positions()

    async def close(self) -> None:
        self._is_closed = True
        for task in (*self._beside, self._running):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self.asking.close()

    def retriever(self) -> Retriever:
        if self._retriever is None or self._retriever.view is not self.view.state:
            self._retriever = Retriever(self.view.state, self.settings.retrieval)
        return self._retriever


async def answered(
    key: bytes | None, value: bytes | None, parts: AnswerParts, cache: CallCache, turns: Turns = ()
) -> Answered:
    """`turns`: of the question's conversation, before it. Never raises for a question: what goes wrong is said in the answer's `error`."""
    started = parts.clock()
    parts.start()
    blank = Answer(query_id(key, value), "")
    only_chunks, told, query = False, Told(blank), None
    try:
        query = read_query(key, value)
        blank, only_chunks = replace(blank, question=query.question), parts.asking.strategy(query) == "retrieve"
        async with asyncio.timeout(parts.settings.answer_timeout_ms / 1000):
            told = await _told(query, parts, cache, turns)
        answer = told.answer
    except TimeoutError:
        answer = replace(blank, error=f"no answer within {parts.settings.answer_timeout_ms} ms (answer_timeout_ms)")
    except RagError as error:
        answer = replace(blank, error=str(error))
    took_ms = round((parts.clock() - started) * 1000)
    answer = replace(answer, index_position=answer.index_position or parts.positions(), took_ms=took_ms)
    turn = _turn(query, answer)
    stands = query if parts.sharded is None else None  # over shards nothing does
    return Answered(answer, only_chunks, told.entries, stands, told.shown, turn)


def _turn(query: Query | None, answer: Answer) -> tuple[str, str] | None:
    """A question that went wrong is none."""
    if query is None or query.stream is None or answer.error is not None:
        return None
    return answer.understood_as or query.question, answer.answer or ""


async def _told(query: Query, parts: AnswerParts, cache: CallCache, turns: Turns) -> Told:
    if query.filter is not None:
        filter_of(query.filter)  # a wrong one is an error at once, whatever the index is doing
    sought = None if parts.sharded is None else await _sought(query, parts.sharded)
    if sought is None:
        await parts.view.wait_ready(parts.settings.ready_timeout_ms)
        if query.fresh_after:
            await parts.view.wait_passed(query.fresh_after, parts.settings.fresh_timeout_ms)
    understood = await parts.asking.understanding.understood(query, turns, cache)
    asked = understood.query
    ranked = await parts.asking.found(asked, sought or parts.retriever())
    blank = Answer(
        query.id,
        query.question,
        index_position=parts.view.positions() if sought is None else sought.positions,
        missing_shards={} if sought is None else sought.missing,
        understood_as=None if asked.question == query.question else asked.question,
        understanding_failure=understood.failure,
    )
    ranked = replace(ranked, tokens=ranked.tokens + understood.tokens)
    told = await parts.asking.told(asked, ranked, blank, cache, _said(query, parts))
    told = replace(told, entries=(*understood.entries, *told.entries))
    return replace(told, shown=signature(ranked.hits)) if query.standing else told


async def _sought(query: Query, sharded: ShardedIndex) -> Sought:
    if query.standing:
        raise MessageError(
            "queries: a standing question needs the whole index in one process, not in shards - at $.mode"
        )
    return await sharded.sought(query)


def _said(query: Query, parts: AnswerParts) -> Said | None:
    hear: list[Said] = [partial(one, query.id) for one in parts.heard]
    if query.drafts and parts.drafts is not None:
        hear.append(parts.drafts.of(query.id))
    if not hear:
        return None

    def said(piece: str) -> None:
        for one in hear:
            one(piece)

    return said


async def _nobody(partition: int, key: bytes, value: bytes) -> None:
    """Where no broker is bound, nobody can be asked again."""
