"""`AsyncClient` for programs without an event loop: the same methods, which wait. It has a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from .catalogue_values import DocumentsPage, DocumentStatistics, Listed
from .client import AsyncClient
from .document import Answer, Document, Hit
from .filters import FilterText
from .messages import Status

T = TypeVar("T")


class Client:
    """See `AsyncClient` for what is given and what is raised. To be used in `with`, from any thread."""

    def __init__(self, app: str | None = None, **options: Any) -> None:
        self._async = AsyncClient(app, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="millstream-client", daemon=True)

    def put(
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
        return self._run(
            self._async.put(
                uri,
                text=text,
                content=content,
                ref=ref,
                content_type=content_type,
                metadata=metadata,
                modified_at=modified_at,
                version=version,
            )
        )

    def delete(self, uri: str) -> None:
        self._run(self._async.delete(uri))

    def put_many(self, documents: Iterable[Document], *, concurrency_max: int = 64) -> list[Status]:
        return self._run(self._async.put_many(documents, concurrency_max=concurrency_max))

    def delete_many(self, uris: Iterable[str], *, concurrency_max: int = 64) -> None:
        self._run(self._async.delete_many(uris, concurrency_max=concurrency_max))

    def document(self, uri: str) -> Listed | None:
        return self._run(self._async.document(uri))

    def documents(self, filter: FilterText | None = None, *, after: str = "", limit: int = 100) -> DocumentsPage:  # noqa: A002
        return self._run(self._async.documents(filter, after=after, limit=limit))

    def statistics(self) -> DocumentStatistics:
        return self._run(self._async.statistics())

    def ask(self, question: str, **options: Any) -> Answer:
        return self._run(self._async.ask(question, **options))

    def retrieve(self, question: str, **options: Any) -> list[Hit]:
        return self._run(self._async.retrieve(question, **options))

    def follow(self, question: str, **options: Any) -> Generator[Answer, None, None]:
        """Close it (or leave the loop that has it) to stop listening."""
        answers = self._async.follow(question, **options)
        try:
            while True:
                try:
                    yield self._run(anext(answers))
                except StopAsyncIteration:
                    return
        finally:
            self._run(answers.aclose())

    def end(self, id: str) -> None:  # noqa: A002
        self._run(self._async.end(id))

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._run(self._async.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(self._async.__aexit__(kind, error, trace))
        finally:
            self._end()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
