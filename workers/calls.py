"""Making the calls of steps that wait: whatever happens becomes an outcome, for the step is told of it in its turn."""

from __future__ import annotations

import asyncio

from .operator import Call
from .task import Task


async def outcome_of(call: Call) -> object:
    """What the call gave, or the exception it ended with."""
    try:
        return await call.run()
    except Exception as error:  # noqa: BLE001 - the step is told of it, whatever it is
        return error


def make_calls(task: Task) -> bool:
    """All calls of a task to their end, one after the other, where no event loop runs. Whether there were any."""
    called = False
    while waiting := task.startable():
        called = True
        for one in waiting:
            one.started = True
            task.finished(one, asyncio.run(outcome_of(one.call)))
    return called
