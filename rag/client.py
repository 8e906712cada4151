"""Documents and questions from a program of yours: put, delete, list, ask, retrieve, and wait for what comes of it.

    async with AsyncClient("help", bootstrap="127.0.0.1:9092") as client:          # over Kafka, or
    async with AsyncClient(url="http://127.0.0.1:8080") as client:                 # through a gateway
        await client.put("lamp.md", text="The lamp is made by Ada.")
        answer = await client.ask("Who makes the lamp?", fresh=True)

Over Kafka it writes to the topics of a document pipeline and reads what its workers write back, as any Kafka client in any language
can (`messages.py`); it knows nothing of the workers. `sync_client.py` is the same for programs without an event loop.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar

from ..topics.broker import Broker
from ..topics.kafka.broker import KafkaBroker
from .catalogue_values import DocumentsPage, DocumentStatistics, Listed
from .document import Answer, Document, Hit
from .document_topics import DocumentTopics
from .errors import AnswerError, MessageError
from .filters import FilterText
from .http_transport import HttpTransport
from .messages import Query, Status, Strategy, write_document, write_query
from .read_back import read_answer, read_status
from .topics_transport import TopicsTransport
from .transport import Transport

T = TypeVar("T")


class AsyncClient:
    """Of one document pipeline: by the name of its app over Kafka, or by the `url` of its gateway.

    Over Kafka: `bootstrap`: where it is; `security`: further settings by Kafka's names; `broker`: one that is there already, instead
    of both; `topics`: names that differ from the usual ones, as in the pipeline. Through a gateway: `token`, of who asks (default:
    the variable MILLSTREAM_TOKEN). `timeout_s`: how long anything is waited for.

    Replies are read from when the client was entered. Raises TopicsError where the broker, the gateway or a topic is not to be had.
    """

    def __init__(
        self,
        app: str | None = None,
        *,
        url: str | None = None,
        token: str | None = None,
        bootstrap: str = "127.0.0.1:9092",
        security: Mapping[str, object] | None = None,
        broker: Broker | None = None,
        topics: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        if (app is None) == (url is None):
            raise ValueError("give the name of the pipeline's app (over Kafka) or the url of its gateway, and not both")
        self._transport: Transport
        if url is not None:
            self._transport = HttpTransport(url, token=token, timeout_s=timeout_s)
        else:
            names = DocumentTopics.of(app or "", **(topics or {}))
            reached = broker or KafkaBroker({"bootstrap.servers": bootstrap, **(security or {})})
            self._transport = TopicsTransport(names, reached, own=broker is None, timeout_s=timeout_s)

    # Documents

    async def put(
        self,
        uri: str,
        *,
        text: str | None = None,
        content: bytes | None = None,
        ref: str | None = None,
        content_type: str = "",
        metadata: Mapping[str, Any] | None = None,
        modified_at: str | int | None = None,
        version: str | int | None = None,
    ) -> Status:
        """Puts a document (exactly one of `text`, `content`, `ref`) and waits until it is indexed, or has failed: see the status.

        Raises ValueError, TimeoutError, BusyError.
        """
        if sum(part is not None for part in (text, content, ref)) != 1:
            raise ValueError(f"document {uri!r}: give exactly one of text, content and ref")
        document = Document(uri, content, text, ref, content_type, metadata or {}, modified_at, version)
        return await self._put(document)

    async def put_many(self, documents: Iterable[Document], *, concurrency_max: int = 64) -> list[Status]:
        """Puts them beside each other, so many at a time; their statuses in the same order. Raises as `put`."""
        return await _beside([self._put(one) for one in documents], concurrency_max)

    async def delete_many(self, uris: Iterable[str], *, concurrency_max: int = 64) -> None:
        """Deletes them beside each other, so many at a time. Raises as `delete`."""
        await _beside([self.delete(uri) for uri in uris], concurrency_max)

    async def _put(self, document: Document) -> Status:
        uri = document.uri
        status = read_status(await self._transport.put(uri, write_document(document)))
        if status is None:
            raise MessageError(f"document {uri!r} was put, and then deleted by somebody else")
        return status

    async def delete(self, uri: str) -> None:
        """Deletes a document and waits until nothing of it is found any more. Raises TimeoutError, BusyError."""
        await self._transport.delete(uri)

    async def document(self, uri: str) -> Listed | None:
        """What is known of a document; None: there is none. Raises NotFreshError."""
        return await self._transport.document(uri)

    async def documents(
        self,
        filter: FilterText | None = None,  # noqa: A002 - the word of the queries topic
        *,
        after: str = "",
        limit: int = 100,
    ) -> DocumentsPage:
        """Documents in the order of their ids, at most `limit` (1,000 at most). Raises FilterError, NotFreshError."""
        return await self._transport.documents(filter, after=after, limit=limit)

    async def statistics(self) -> DocumentStatistics:
        """Of all documents. Raises NotFreshError."""
        return await self._transport.statistics()

    # Questions

    async def ask(
        self,
        question: str,
        *,
        k: int | None = None,
        filter: str | Mapping[str, str] | None = None,  # noqa: A002 - the word of the queries topic
        strategy: Strategy | None = None,
        model: str | None = None,
        tenant: str | None = None,
        stream: str | None = None,
        fresh: bool = False,
        fresh_after: Mapping[int, int] | None = None,
    ) -> Answer:
        """The answer, with its sources; `no_answer` where the documents do not say.

        `stream`: the conversation it belongs to; a follow-up is understood by what was asked and answered in it before.
        `fresh`: only once the index has everything that is in its topic now, what was just put included. `fresh_after`: a position
        of your own. Raises AnswerError where the answer is an error, MessageError, TimeoutError, BusyError.
        """
        query = Query(
            _new_id(), question, k, filter, strategy, model, dict(fresh_after or {}), tenant=tenant, stream=stream
        )
        answer = read_answer(await self._transport.ask(query.id, write_query(query), fresh=fresh))
        if answer.error:
            raise AnswerError(f"{question!r}: {answer.error}")
        return answer

    async def retrieve(self, question: str, **options: Any) -> list[Hit]:
        """The chunks that fit, best first; options as of `ask`."""
        return list((await self.ask(question, **{**options, "strategy": "retrieve"})).sources)

    async def follow(self, question: str, *, id: str | None = None, **options: Any) -> AsyncGenerator[Answer, None]:  # noqa: A002
        """Each answer of a standing question, as the documents change; options as of `ask`, without `fresh`.

        With an `id` of yours the question stands on when you stop listening, until `end(id)`; without one it ends with it.
        Raises AnswerError.
        """
        query = Query(id or _new_id(), question, standing=True, **options)
        try:
            async with aclosing(self._transport.stand(query.id, write_query(query))) as records:
                async for record in records:
                    answer = read_answer(record)
                    if answer.error:
                        raise AnswerError(f"{question!r}: {answer.error}")
                    yield answer
        finally:
            if id is None:
                await self._transport.end(query.id)

    async def end(self, id: str) -> None:  # noqa: A002
        """Ends a standing question."""
        await self._transport.end(id)

    # Beginning and end

    async def __aenter__(self) -> Self:
        try:
            await self._transport.open()
        except BaseException:
            await self._transport.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()


async def _beside(work: Sequence[Coroutine[Any, Any, T]], count_max: int) -> list[T]:
    """In their order. The first that fails ends the others."""
    places = asyncio.Semaphore(count_max)

    async def one(waiting: Coroutine[Any, Any, T]) -> T:
        async with places:
            return await waiting

    tasks = [asyncio.ensure_future(one(waiting)) for waiting in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _new_id() -> str:
    return uuid.uuid4().hex
