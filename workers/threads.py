"""Work in a thread that is never left alone: whoever is cancelled waits for the end of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


async def in_executor(executor: Executor, work: Callable[[], Result]) -> Result:
    """The result. Raises what the work raises.

    A thread cannot be stopped. If this is cancelled (a shard is dropped in the middle of it) the work still ends before
    anything else happens: whoever closes the database next must not do so under the thread's hands.
    """
    future = asyncio.get_running_loop().run_in_executor(executor, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        with suppress(Exception):
            future.result()  # looked at, so that nobody is told of an error that was never retrieved
        raise
