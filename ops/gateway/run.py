"""A gateway as a process of its own, or beside a worker."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from ...rag.document_topics import DocumentTopics
from ...rag.errors import MessageError
from ...rag.late_answers import LateAnswers
from ...rag.operators.answer import Answer
from ...rag.topics_transport import TopicsTransport
from ...topics.broker import Broker
from ...topics.errors import BrokerUnavailableError
from ...workers.app import App
from ...workers.graph import Work
from ..errors import InputError
from .door import Door
from .server import GatewayServer
from .settings import GatewaySettings

RETRY_S: Final = 0.5

_log = logging.getLogger("millstream.gateway")


def answer_of(app: App) -> Answer:
    """The app's step that answers. Raises InputError where there is none, or several."""
    steps = [node.step for node in app.graph if isinstance(node, Work) and isinstance(node.step, Answer)]
    if len(steps) != 1 or steps[0].topics is None:
        raise InputError(
            f"{app.name}: a gateway stands before one document pipeline that answers questions, and here are {len(steps)}"
        )
    return steps[0]


def late_answers(settings: GatewaySettings) -> LateAnswers:
    return LateAnswers(
        settings.late_answers_max, settings.late_answers_bytes_max, settings.late_answers_age_max_ms, time.monotonic
    )


async def started(
    settings: GatewaySettings,
    topics: DocumentTopics,
    broker: Callable[[], Broker],
    answer: Answer | None,
    *,
    wait_s: float | None,
) -> GatewayServer:
    """Waits until the pipeline's topics are there (`wait_s`; None: for ever). Raises what `GatewayServer.start` raises."""
    deadline = None if wait_s is None else time.monotonic() + wait_s
    told = False
    while True:
        late = late_answers(settings)
        transport = TopicsTransport(topics, broker(), own=True, timeout_s=settings.timeout_ms / 1000, late=late)
        server = GatewayServer(Door(transport, settings, answer))
        try:
            await server.start()
        except (MessageError, BrokerUnavailableError) as error:
            if deadline is not None and time.monotonic() + RETRY_S > deadline:
                raise
            if not told:
                _log.warning("gateway: %s; trying again", error)
                told = True
            await asyncio.sleep(RETRY_S)
        else:
            return server


@asynccontextmanager
async def beside(
    settings: GatewaySettings,
    answer: Answer,
    broker: Callable[[], Broker],
    failed: Callable[[], None],
    *,
    index: bool,
) -> AsyncIterator[None]:
    """A gateway in the process of a worker, whose index it looks into. `failed` is called where it cannot be, and that is raised."""
    assert answer.topics is not None
    starting = asyncio.create_task(
        started(settings, answer.topics, broker, answer if index else None, wait_s=None), name="gateway"
    )
    starting.add_done_callback(lambda done: failed() if not done.cancelled() and done.exception() else None)
    try:
        yield
    finally:
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await (await starting).stop()


async def serve(
    settings: GatewaySettings,
    topics: DocumentTopics,
    broker: Callable[[], Broker],
    answer: Answer | None,
    *,
    wait_s: float,
) -> None:
    """Until SIGINT or SIGTERM."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    server = await started(settings, topics, broker, answer, wait_s=wait_s)
    try:
        await stopped.wait()
    finally:
        await server.stop()
        _log.info("gateway: stopped")
