"""Awaiting a user's function of a row: so long at most, and so many times, with longer and longer pauses in between.

    attempt 1   pause b   attempt 2   pause 2b   attempt 3   pause 4b   ...        b = retry_backoff, no pause over 30 s

Pauses are the same in every run: there is no jitter in them, since the calls of a step are spread by `concurrency_max` and not
by chance. Whatever the function raises is retried. A call that is cancelled from outside (the worker stops, the shard moves)
has no outcome: its row is read again by who comes after.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from ..topics.duration import Duration, duration_ms, duration_text
from .errors import PlanError
from .rowwise import failure_text, function_text

PAUSE_MAX_MS: Final = 30_000

AsyncFunction = Callable[[dict[str, Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Of the calls of one step, in each task. `retries_max`: attempts after the first."""

    concurrency_max: int = 16
    timeout_ms: int = 30_000
    retries_max: int = 3
    retry_backoff_ms: int = 100

    def __post_init__(self) -> None:
        if self.concurrency_max < 1:
            raise PlanError(f"concurrency_max must be at least 1, got {self.concurrency_max}")
        if self.timeout_ms <= 0:
            raise PlanError(f"timeout must be longer than 0, got {duration_text(self.timeout_ms)}")
        if self.retries_max < 0:
            raise PlanError(f"retries_max must not be negative, got {self.retries_max}")
        if self.retry_backoff_ms < 0:
            raise PlanError(f"retry_backoff must not be negative, got {duration_text(self.retry_backoff_ms)}")

    def pause_ms(self, retry: int) -> int:
        """Before this retry; the first is 0."""
        return min(self.retry_backoff_ms << min(retry, 30), PAUSE_MAX_MS)

    def describe(self) -> dict[str, str]:
        return {
            "concurrency": str(self.concurrency_max),
            "timeout": duration_text(self.timeout_ms),
            "retries": f"{self.retries_max}, after {duration_text(self.retry_backoff_ms)} doubled each time",
        }


def waits(function: Callable[..., Any]) -> bool:
    """Whether it is an `async def` (a generator too), or an object whose `__call__` is."""
    called = inspect.getattr_static(type(function), "__call__", None)
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in (function, called))


def limits_of(
    step: str,
    function: Callable[..., Any],
    *,
    concurrency_max: int | None,
    timeout: Duration | None,
    retries_max: int | None,
    retry_backoff: Duration | None,
) -> CallLimits | None:
    """None for a function that does not wait. Raises PlanError where limits are said of one."""
    given: dict[str, int] = {}
    if concurrency_max is not None:
        given["concurrency_max"] = concurrency_max
    if timeout is not None:
        given["timeout_ms"] = duration_ms(timeout, name="timeout")
    if retries_max is not None:
        given["retries_max"] = retries_max
    if retry_backoff is not None:
        given["retry_backoff_ms"] = duration_ms(retry_backoff, name="retry_backoff")
    if waits(function):
        return CallLimits(**given)
    if given:
        said = ", ".join(name.removesuffix("_ms") for name in given)
        raise PlanError(
            f"{step}: {said} is for functions that wait, and {function_text(function)} does not; write it as 'async def', or leave that out"
        )
    return None


@dataclass(frozen=True, slots=True)
class Gave:
    """What the function returned in the end."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """Why it returned nothing in any attempt."""

    reason: str


async def attempted(
    call: AsyncFunction, function: Callable[..., Any], row: dict[str, Any], limits: CallLimits
) -> Gave | Failed:
    """Each attempt has a row of its own: what one changes in it, the next does not see. `function`: named where it fails."""
    reason = ""
    for attempt in range(limits.retries_max + 1):
        if attempt:
            await asyncio.sleep(limits.pause_ms(attempt - 1) / 1_000)
        allowed = asyncio.timeout(limits.timeout_ms / 1_000)
        try:
            async with allowed:
                return Gave(await call(dict(row)))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            reason = f"{function_text(function)} was cancelled by itself: {error}"
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises is that row's fault alone
            late = isinstance(error, TimeoutError) and allowed.expired()
            limit = duration_text(limits.timeout_ms)
            reason = f"{function_text(function)} gave nothing in {limit}" if late else failure_text(function, error)
    return Failed(reason if not limits.retries_max else f"{reason}; {limits.retries_max + 1} attempts")


async def collected(function: Callable[[dict[str, Any]], Any], row: dict[str, Any]) -> list[Any]:
    """All that an asynchronous function of many rows gives: an iterable it returns, or what it yields."""
    given = function(row)
    if inspect.isasyncgen(given):
        return [one async for one in given]
    return list(await given)
