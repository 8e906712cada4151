"""What all routes stand on: the way to the pipeline, and to the index of this process where there is one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from typing import Any

import orjson

from ...rag.answer_work import AnswerParts, answered
from ...rag.call_cache import CallCache
from ...rag.errors import AnswerError, PartError
from ...rag.filters import filter_of
from ...rag.messages import Query, read_query, write_answer, write_query
from ...rag.operators.answer import Answer
from ...rag.prompt import NO_ANSWER
from ...rag.terms import Terms
from ...rag.topics_transport import TopicsTransport
from ...state.key_value import KeyValueState
from ..metric_table import GATEWAY_METRICS
from ..metrics import PrometheusInstrument
from .replies import HttpError
from .settings import GatewaySettings

_log = logging.getLogger("millstream.gateway")


class Door:
    """`answer`: the pipeline's step, bound to a broker, where chunks are looked up in this process; None: by workers alone."""

    def __init__(self, transport: TopicsTransport, settings: GatewaySettings, answer: Answer | None = None) -> None:
        self.transport = transport
        self.settings = settings
        self.instrument = PrometheusInstrument(GATEWAY_METRICS)
        self._answer = answer
        self._parts: AnswerParts | None = None
        self._no_cache = CallCache(KeyValueState("completions"), 0)
        """Of what a model said: a look-up asks none."""
        self._after: set[asyncio.Task[None]] = set()
        self.closing = asyncio.Event()

    async def open(self) -> None:
        """Raises what the transport raises, and PartError for parts that cannot be."""
        await self.transport.open()
        if self._answer is not None:
            self._parts = self._answer.parts.take()
            self._parts.start()
        self.soon(self._know_documents())

    async def close(self) -> None:
        self.closing.set()
        if self._after:
            await asyncio.wait(self._after, timeout=self.settings.timeout_ms / 1000)
        for task in self._after:
            task.cancel()
        if self._parts is not None and self._answer is not None:
            self._parts = None
            self._answer.parts.give_back()
            await self._answer.parts.closed()
        await self.transport.close()

    async def _know_documents(self) -> None:
        """The list of documents is read from the start, so that the first who asks does not wait for it."""
        await self.transport.catalogue()

    @property
    def parts(self) -> AnswerParts:
        """Raises PartError where this gateway does not know the pipeline."""
        if self._parts is None:
            raise PartError("this gateway only knows the pipeline's topics; start it with the pipeline itself for that")
        return self._parts

    @property
    def has_index(self) -> bool:
        return self._parts is not None and self._parts.sharded is None

    @property
    def no_answer(self) -> str:
        return NO_ANSWER if self._answer is None else self._answer.settings.no_answer

    @cached_property
    def terms(self) -> Terms:
        """Of questions, in the pipeline's language. Raises PartError without the extra `rag`."""
        return Terms("english" if self._answer is None else self._answer.settings.retrieval.language)

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Goes on when the request has ended; what goes wrong is logged."""
        task = asyncio.create_task(self._logged(work))
        self._after.add(task)
        task.add_done_callback(self._after.discard)

    async def _logged(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            _log.warning("%s: %s", type(error).__name__, error)

    # Questions

    async def ask(self, query: Query, *, fresh: bool = False) -> bytes:
        """The record of its answer. Raises AnswerError where that is an error, and what the transport raises."""
        value = checked(query)
        here = query.strategy == "retrieve" and self._parts is not None
        record = await (
            self._here(query.id, value, fresh) if here else self.transport.ask(query.id, value, fresh=fresh)
        )
        _check_answered(record)
        return record

    async def ask_aloud(self, query: Query, *, fresh: bool = False) -> AsyncGenerator[str | bytes, None]:
        """Pieces of its answer while it is made, which may be wrong, then as `ask`."""
        value = checked(replace(query, drafts=True))
        async with aclosing(self.transport.ask_aloud(query.id, value, fresh=fresh)) as told:
            async for one in told:
                if isinstance(one, bytes):
                    _check_answered(one)
                yield one

    def late(self, query_id: str) -> bytes | None:
        """Of a question that timed out; None: it is still to come. Raises AnswerError as `ask`, HttpError 404."""
        late = self.transport.late
        record = None if late is None else late.get(query_id)
        if record is not None:
            self.instrument.count("gateway_late_answers")
            _check_answered(record)
        elif not self.transport.is_asked(query_id) and (late is None or not late.knows(query_id)):
            kept = f"{self.settings.late_answers_age_max_ms} ms, the last {self.settings.late_answers_max}"
            message = f"no question {query_id[:60]!r} timed out here lately (answers are kept for {kept}); ask again"
            raise HttpError(404, "not_found", message, param="id")
        return record

    def exposition(self) -> bytes:
        """In Prometheus' text format."""
        self.instrument.gauge("gateway_questions_open", self.transport.questions)
        return self.instrument.exposition()

    async def _here(self, query_id: str, value: bytes, fresh: bool) -> bytes:
        """From the index of this process: no topic is between, and nothing is paid for."""
        if fresh:
            value = await self.transport.placed(value)
        told = await answered(query_id.encode(), value, self.parts, self._no_cache)
        return write_answer(told.answer)

    async def stand(self, query: Query) -> AsyncIterator[bytes | None]:
        """Each answer; None when there was nothing for a while. Ends when the gateway stops."""
        interval_s = self.settings.ping_interval_ms / 1000
        async with aclosing(self.transport.stand(query.id, checked(query))) as records:
            while True:
                following = asyncio.ensure_future(anext(records))
                closing = asyncio.ensure_future(self.closing.wait())
                try:
                    while not following.done():
                        await asyncio.wait(
                            {following, closing}, timeout=interval_s, return_when=asyncio.FIRST_COMPLETED
                        )
                        if closing.done() and not following.done():
                            return
                        if not following.done():
                            yield None
                    yield following.result()
                except StopAsyncIteration:
                    return
                finally:
                    following.cancel()
                    closing.cancel()
                    await asyncio.wait({following, closing})


def _check_answered(record: bytes) -> None:
    """Raises AnswerError."""
    if error := orjson.loads(record or b"{}").get("error"):
        raise AnswerError(str(error))


def checked(query: Query) -> bytes:
    """As it is sent. What is wrong with it is found here, not by a worker: raises MessageError, FilterError."""
    value = write_query(query)
    read_query(query.id.encode(), value)
    if query.filter is not None:
        filter_of(query.filter)
    return value
