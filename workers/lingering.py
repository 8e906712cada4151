"""What the tasks of a step share (a model, an index, processes) is let go in the background; a worker that ends waits for that."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol, runtime_checkable

from .graph import Graph, Work

log = logging.getLogger("millstream.worker")

LET_GO_TIMEOUT_S: Final = 10.0


@runtime_checkable
class Lingers(Protocol):
    """A step whose tasks share something."""

    async def closed(self) -> None:
        """Until everything that the tasks have given back is closed, well or not."""
        ...


async def let_go(graph: Graph) -> None:
    """Of all steps together, `LET_GO_TIMEOUT_S` at most: a worker that ends does not hang for a part that does."""
    steps = [node.step for node in graph if isinstance(node, Work) and isinstance(node.step, Lingers)]
    try:
        async with asyncio.timeout(LET_GO_TIMEOUT_S):
            for step in steps:
                await step.closed()
    except TimeoutError:
        log.warning("what steps share was not closed within %g s; the worker ends all the same", LET_GO_TIMEOUT_S)
