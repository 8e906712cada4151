"""One component for all tasks of a process: made when the first asks for it, closed when the last lets go.

Steps are values and are built once a task; a model of 90 MB or an index is not. A `Shared` is part of a step and takes no part in
comparing steps. Tasks are opened in worker threads while calls run in the event loop, so it is locked; closing waits, so it is
done in the loop that was noted while the component was used (none: it was never used there, and there is nothing to wait for).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """`make` must not wait; `close` may."""

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._made: T | None = None
        self._users = 0
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def take(self) -> T:
        """From any thread. Raises what `make` raises."""
        self.note_loop()
        with self._lock:
            if self._made is None:
                self._made = self._make()
            self._users += 1
            return self._made

    def note_loop(self) -> None:
        """The loop of the caller, if there is one, is where the component is used and will be closed."""
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:  # a worker thread
            return

    def soon(self, work: Callable[[], None]) -> None:
        """Has the loop do this, if it is known yet."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(work)

    def give_back(self) -> None:
        """From any thread. Closing goes on in the background; `closed` waits for it."""
        with self._lock:
            self._users -= 1
            if self._users or self._made is None:
                return
            made, self._made = self._made, None
        self.soon(lambda: self._begin_closing(made))

    async def closed(self) -> None:
        """Until everything given back so far is closed, well or not."""
        await asyncio.sleep(0)
        if self._closing:
            await asyncio.wait(self._closing)  # not `gather`: whoever stops waiting must not stop the closing

    def _begin_closing(self, made: T) -> None:
        task = asyncio.ensure_future(self._closed(made))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _closed(self, made: T) -> None:
        await self._close(made)
