"""What the small readers and writers beside the steps have in common: they go on through a broker that is away, and open a producer
when they first need it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ..topics.broker import Broker, Producer
from ..topics.errors import BrokerUnavailableError

_LOG = logging.getLogger(__name__)

Retried = type[Exception] | tuple[type[Exception], ...]


async def kept_up(
    what: str, follow: Callable[[], Awaitable[None]], pause_ms: int, retried: Retried = BrokerUnavailableError
) -> None:
    """Until cancelled: `follow`, again after a pause whenever it ends or raises what is `retried`. Raises what else it raises.

    `what` begins the line of the log.
    """
    while True:
        try:
            await follow()
        except retried as error:
            _LOG.warning("%s: %s; trying again", what, error)
        await asyncio.sleep(pause_ms / 1000)


class LazyProducer:
    """One producer of several callers, started by the first and made anew after it was given up."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._started: Producer | None = None
        self._starting = asyncio.Lock()

    async def get(self) -> Producer:
        """Raises what starting it raises; the next call tries again."""
        async with self._starting:
            if self._started is None:
                producer = self._broker.producer()
                try:
                    await producer.start()
                except BaseException:
                    await producer.drop()
                    raise
                self._started = producer
            return self._started

    async def give_up(self, producer: Producer) -> None:
        """After trouble with it; nothing where another one has taken its place."""
        if self._started is producer:
            self._started = None
            await producer.drop()

    async def close(self) -> None:
        if self._started is not None:
            await self.give_up(self._started)
