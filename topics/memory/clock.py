"""Time in the memory broker: the wall clock, or one that moves only by hand. Waits end by an event or by this time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_SWEEP_MIN: Final = 64
"""Timers kept before those that are over are thrown out."""


@dataclass(order=True)
class Timer:
    """A call that is due at a time."""

    at_ms: int
    number: int
    callback: Callable[[], None] = field(compare=False)
    over: bool = field(default=False, compare=False)
    """Called, or cancelled."""
    handle: asyncio.TimerHandle | None = field(default=None, compare=False)

    def cancel(self) -> None:
        self.over = True
        if self.handle is not None:
            self.handle.cancel()

    def fire(self) -> None:
        if not self.over:
            self.cancel()
            self.callback()


class MemoryClock:
    """Milliseconds since the epoch, for record timestamps, sessions, transactions and the timeouts of polls.

    `MemoryClock()` runs with the wall clock and can be put forward. `MemoryClock(now_ms)` stands still until `advance`:
    with it a run is the same every time, and a poll with nothing to read waits until somebody advances the time.
    """

    def __init__(self, now_ms: int | None = None) -> None:
        self._standing = now_ms
        self._ahead_ms = 0
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._sweep_at = _SWEEP_MIN

    @property
    def now_ms(self) -> int:
        if self._standing is not None:
            return self._standing
        return time.time_ns() // 1_000_000 + self._ahead_ms

    def advance(self, ms: int) -> None:
        """Put the time forward. What becomes due happens now, in the order of its time. Raises ValueError going back."""
        if ms < 0:
            raise ValueError(f"time goes forward only, got {ms} ms")
        target = self.now_ms + ms
        while self._timers and self._timers[0].at_ms <= target:
            timer = heapq.heappop(self._timers)
            if not timer.over:
                self._move_to(max(timer.at_ms, self.now_ms))
                timer.fire()
        self._move_to(target)
        for timer in self._timers:
            self._schedule(timer)

    def call_after(self, ms: int, callback: Callable[[], None]) -> Timer:
        """Call when that much time has passed."""
        if len(self._timers) >= self._sweep_at:
            self._timers = [timer for timer in self._timers if not timer.over]
            heapq.heapify(self._timers)
            self._sweep_at = max(_SWEEP_MIN, 2 * len(self._timers))
        timer = Timer(self.now_ms + ms, next(self._numbers), callback)
        heapq.heappush(self._timers, timer)
        self._schedule(timer)
        return timer

    async def wait(self, event: asyncio.Future[None], timeout_ms: int) -> bool:
        """Whether the event came within the time. The event is done afterwards either way."""
        timer = self.call_after(timeout_ms, lambda: None if event.done() else event.set_exception(TimeoutError()))
        try:
            await event
        except TimeoutError:
            return False
        finally:
            timer.cancel()
        return True

    def _schedule(self, timer: Timer) -> None:
        """A running clock lets the event loop call; a standing one calls as it is advanced."""
        if self._standing is None and not timer.over:
            if timer.handle is not None:
                timer.handle.cancel()
            delay_ms = max(0, timer.at_ms - self.now_ms)
            timer.handle = asyncio.get_running_loop().call_later(delay_ms / 1000, timer.fire)

    def _move_to(self, target_ms: int) -> None:
        if self._standing is not None:
            self._standing = target_ms
        else:
            self._ahead_ms += max(0, target_ms - self.now_ms)


class Signal:
    """Wakes everybody who waits for something to change; each then looks for himself."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def next(self) -> asyncio.Future[None]:
        """Done at the next change."""
        self._waiting = [future for future in self._waiting if not future.done()]
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    def changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
