"""The shards that this process holds: a view of one partition each, opened and closed with the task that answers for it.

A shard is derived from its partition of `index-updates`, and from nothing else: a process that is given one reads it from the checkpoint
that it has of it, or from the beginning, and says "later" until it is where the partition ended when it began. Several in a process share
the embedder's name and size, and nothing besides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from ..state.errors import StateError
from ..topics.errors import TopicsError
from .embedder import Embedder
from .errors import MessageError, NotFreshError, PartError, RagError
from .messages import query_id
from .parts import part_named
from .settings import AnswerSettings
from .shard_messages import Record, ShardQuery, ShardReply, read_request, write_reply
from .shard_requests import Replied, ShardRequests
from .shard_search import ShardSearch
from .view import IndexView

_LOG: Final = logging.getLogger(__name__)
_OURS: Final = frozenset({"auto", "exact", "hnsw"})


class Shards(Protocol):
    """What the tasks of `search` share."""

    def open(self, shard: int) -> None:
        """From any thread: a task answers for it now."""
        ...

    def leave(self, shard: int) -> None:
        """From any thread: no task here does."""
        ...

    def is_past(self, shard: int, offset: int) -> bool:
        """From any thread: whether the request at this offset was replied to already, beside the task."""
        ...

    async def wait_past(self, shard: int, offset: int) -> bool:
        """Whether it is being replied to beside the task; then until it was."""
        ...

    async def replied(self, shard: int, key: bytes | None, value: bytes | None) -> list[Record]:
        """Never raises for a request: what is wrong with it is said in the reply, where it says whom to reply to."""
        ...

    def take_counts(self) -> dict[str, int]:
        """Of requests that were replied to beside the tasks, since the last call."""
        ...

    async def close(self) -> None: ...


class ShardViews:
    """Raises PartError for parts that cannot be. `open_view`: of one partition."""

    def __init__(
        self,
        settings: AnswerSettings,
        open_view: Callable[[Embedder, int], IndexView],
        loop: asyncio.AbstractEventLoop | None = None,
        earlier_closed: Callable[[], Awaitable[None]] | None = None,
        *,
        requests: Callable[[Replied], ShardRequests] | None = None,
    ) -> None:
        """`requests`: reads and replies to them beside the tasks, of what it is given; None: the tasks reply to all."""
        check_in_process(settings)
        self._settings = settings
        self._loop = loop
        self._earlier_closed = earlier_closed
        self._embedder: Embedder = part_named("embedder", settings.embedder.name, settings.embedder.options)
        self._open_view = open_view
        self._views: dict[int, IndexView] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._closing: dict[int, asyncio.Task[None]] = {}
        self._searches: dict[int, ShardSearch] = {}
        self._requests = None if requests is None else requests(self.replied)
        self._serving: asyncio.Task[None] | None = None

    def open(self, shard: int) -> None:
        self._views[shard] = self._open_view(self._embedder, shard)
        self._soon(lambda: self._start(shard))

    def leave(self, shard: int) -> None:
        view = self._views.pop(shard, None)
        if view is not None:
            self._soon(lambda: self._stop(shard))

    def _soon(self, work: Callable[[], None]) -> None:
        """Where no event loop is known yet, the first request starts the view."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(work)

    def _start(self, shard: int) -> None:
        """In the loop. A second call does nothing."""
        view = self._views.get(shard)
        if view is None or shard in self._running:
            return
        self._running[shard] = asyncio.ensure_future(self._run(shard, view, self._closing.pop(shard, None)))
        if self._requests is not None:
            self._requests.hold(shard)
            if self._serving is None:
                self._serving = asyncio.ensure_future(self._requests.run())

    async def _run(self, shard: int, view: IndexView, before: asyncio.Task[None] | None) -> None:
        """The view before this one still holds the database."""
        if self._earlier_closed is not None:
            await self._earlier_closed()
        if before is not None:
            await asyncio.wait([before])
        try:
            await view.run()
        except (StateError, TopicsError):  # the view itself says so to whoever asks
            _LOG.exception("shard %d of the index has ended", shard)

    def _stop(self, shard: int) -> None:
        self._searches.pop(shard, None)
        if self._requests is not None:
            self._requests.let_go(shard)
        running = self._running.pop(shard, None)
        if running is not None:
            running.cancel()
            self._closing[shard] = running

    async def close(self) -> None:
        for shard in list(self._running):
            self._stop(shard)
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait([self._serving])
        if self._closing:
            await asyncio.wait(list(self._closing.values()))
        await self._embedder.close()

    def is_past(self, shard: int, offset: int) -> bool:
        return self._requests is not None and self._requests.is_past(shard, offset)

    async def wait_past(self, shard: int, offset: int) -> bool:
        return self._requests is not None and await self._requests.wait_past(shard, offset)

    def take_counts(self) -> dict[str, int]:
        return {} if self._requests is None else self._requests.take_counts()

    async def replied(self, shard: int, key: bytes | None, value: bytes | None) -> list[Record]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._start(shard)
        try:
            request = read_request(value)
        except MessageError as error:
            known = query_id(None, value)
            return write_reply(key, known, ShardReply(shard, wrong=str(error))) if known else []
        return write_reply(key, request.id, await self._reply(shard, request))

    async def _reply(self, shard: int, request: ShardQuery) -> ShardReply:
        view = self._views.get(shard)
        if view is None:
            return ShardReply(shard, later="the shard is being moved")
        try:
            await view.wait_ready(0)
            if request.after is not None:
                await view.wait_passed({shard: request.after}, 0)
            return self._search(shard, view).reply(shard, view.positions().get(shard, 0), request)
        except NotFreshError as error:
            return ShardReply(shard, later=str(error))
        except RagError as error:
            return ShardReply(shard, wrong=str(error))
        except Exception as error:  # noqa: BLE001 - whoever asked is told; raised, it would be asked of the next task for ever
            _LOG.exception("shard %d of the index: request %s", shard, request.id)
            return ShardReply(shard, wrong=f"{type(error).__name__}: {error}")

    def _search(self, shard: int, view: IndexView) -> ShardSearch:
        search = self._searches.get(shard)
        if search is None or search.view is not view.state:
            search = self._searches[shard] = ShardSearch(view.state, self._settings.retrieval)
        return search


def check_in_process(settings: AnswerSettings) -> None:
    """Raises PartError for an index in a store outside, which has its own ways to be larger than one machine."""
    if settings.sharded is not None and settings.view.index.name not in _OURS:
        raise PartError(
            f"the index {settings.view.index.name!r} cannot be in shards; those that can are {', '.join(sorted(_OURS))}"
        )
