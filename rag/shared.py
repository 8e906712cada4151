"""One component for all tasks of a process: made when the first asks for it, closed when the last lets go.

Steps are values and are built once a task; a model of 90 MB or an index is not. A `Shared` is part of a step and takes no part in
comparing steps. Tasks are opened in worker threads while calls run in the event loop, so it is locked; closing waits, so it is
done in the loop that was noted while the component was used (none: it was never used there, and there is nothing to wait for).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Closes(Protocol):
    async def close(self) -> None: ...


T = TypeVar("T", bound=Closes)


class Shared(Generic[T]):
    """`make` must not wait; what it makes may, as it closes."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: T | None = None
        self._users = 0
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def lease(self) -> Lease[T]:
        """For one task."""
        return Lease(self)

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
        task = asyncio.ensure_future(made.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class Lease(Generic[T]):
    """A task's part in it: given back once, and not at all by a task that is closed before it was open (a worker that is stopped while
    it restores)."""

    def __init__(self, shared: Shared[T]) -> None:
        self._shared = shared
        self.is_held = False

    def take(self) -> T:
        """As `Shared.take`."""
        made = self._shared.take()
        self.is_held = True
        return made

    def give_back(self) -> None:
        """From any thread."""
        if self.is_held:
            self.is_held = False
            self._shared.give_back()

    def note_loop(self) -> None:
        self._shared.note_loop()
