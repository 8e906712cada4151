"""One component for all tasks of a process: made when the first asks for it, closed when the last lets go.

Steps are values and are built once a task; a model of 90 MB or an index is not. A `Shared` is part of a step, takes no part in
comparing steps, and belongs to one event loop. Tasks are opened in worker threads, several at a time, so `take` is locked.
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
        self._closing: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()

    def take(self) -> T:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            self._users += 1
            return self._made

    def give_back(self) -> None:
        """Closing goes on in the background; `closed` waits for it."""
        with self._lock:
            self._users -= 1
            made = self._made if self._users == 0 else None
            if made is not None:
                self._made = None
        if made is not None:
            task = asyncio.get_running_loop().create_task(self._closed(made))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def closed(self) -> None:
        """Until everything given back is closed."""
        await asyncio.gather(*self._closing)

    async def _closed(self, made: T) -> None:
        await self._close(made)
