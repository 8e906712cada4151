"""Waiting for what happens outside the test: asked again and again until a deadline. Written once, here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

LIMIT_S = 60
"""After so long a test that waits has failed."""

_PAUSE_S = 0.01


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    """Returns as soon as it is so. Raises TimeoutError at the limit."""
    async with asyncio.timeout(LIMIT_S):
        while not await done():
            await asyncio.sleep(_PAUSE_S)
