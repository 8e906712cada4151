"""Time that costs nothing: the event loop's clock jumps to the next timer whenever nothing is left to do.

Everything happens in one thread, in an order that is the same in every run: what would go to worker threads runs on the loop,
one turn later. So a run can be repeated and crashed at its n-th step, and ten seconds of waiting take no time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar, cast

from millstream.topics.memory import MemoryClock
from millstream.workers import clock as workers_clock

T = TypeVar("T")

BEGIN_MS = 1_700_000_000_000
"""The wall clock at a loop's start, a day in 2023: event times of the tests lie before it."""
LIMIT_S = 300
"""Of virtual time: a run that takes longer hangs."""


class _Jumping(selectors.SelectSelector):
    """Nothing ever comes from outside; a wait is over at once, and the time with it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits for something that nobody will do")
        self.now_s += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the top of the file."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-6  # a jump may end a rounding error before the timer it was for

    def time(self) -> float:
        return self._jumping.now_s

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        future: asyncio.Future[T] = self.create_future()
        self.call_soon(_run_into, future, func, args)
        return future


def _run_into(future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if future.cancelled():
        return
    try:
        result, failure = func(*args), None
    except BaseException as error:  # noqa: BLE001 - handed to who awaits it
        result, failure = None, error
    if future.cancelled():  # whoever waited was killed by what ran
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(result)


class LoopClock(MemoryClock):
    """The memory broker's clock, by the time of the loop it runs in."""

    @property
    def now_ms(self) -> int:
        return BEGIN_MS + round(asyncio.get_running_loop().time() * 1000)


class _WorkersTime:
    """What `workers/clock.py` asks of the module `time`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def time_ns(self) -> int:
        return (BEGIN_MS + round(self._loop.time() * 1000)) * 1_000_000

    def perf_counter(self) -> float:
        return self._loop.time()


def run_virtually(coroutine: Coroutine[Any, Any, T], ignored: tuple[type[BaseException], ...] = ()) -> T:
    """Runs it to its end, with the workers' clock at the loop's. Errors nobody awaits fail the run, but for `ignored`."""
    unheard: list[Mapping[str, Any]] = []

    def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), ignored):
            unheard.append(context)

    clock = cast(Any, workers_clock)
    real = clock.time
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        loop.set_exception_handler(note)
        clock.time = _WorkersTime(loop)
        try:
            result = runner.run(_limited(coroutine))
        finally:
            clock.time = real
    assert unheard == []
    return result


async def _limited(coroutine: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(LIMIT_S):
        return await coroutine
