"""Making the calls of steps that wait: whatever happens becomes an outcome, for the step is told of it in its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .operator import Call
from .task import Task


async def outcome_of(call: Call) -> object:
    """What the call gave, or the exception it ended with."""
    try:
        return await call.run()
    except Exception as error:  # noqa: BLE001 - the step is told of it, whatever it is
        return error


def make_calls(task: Task) -> bool:
    """All calls of a task to their end, where no event loop runs: those beside each other that may be. Whether there were any."""
    called = False
    while waiting := task.startable():
        called = True
        for one in waiting:
            one.started = True
        outcomes = asyncio.run(_outcomes([one.call for one in waiting]))
        for one, outcome in zip(waiting, outcomes, strict=True):
            task.finished(one, outcome)
    return called


async def _outcomes(calls: Sequence[Call]) -> list[object]:
    return list(await asyncio.gather(*(outcome_of(call) for call in calls)))
