"""What `produce`, `consume`, `topics` and `reset` need of a broker, apart from how it is shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from ..topics.broker import Broker, TopicInfo
from .errors import InputError
from .setting import did_you_mean

if TYPE_CHECKING:
    from .settings import RunSettings

T = TypeVar("T")


def with_broker(settings: RunSettings, work: Callable[[Broker], Awaitable[T]]) -> T:
    """Runs the work with a connected broker. Raises BrokerUnavailableError, and what the work raises."""

    async def go() -> T:
        from .logs import configure_logs
        from .run import kafka_of

        configure_logs(settings.log_format, "error", secrets=settings.secrets())
        async with connected(kafka_of(settings)) as broker:
            return await work(broker)

    return asyncio.run(go())


@asynccontextmanager
async def connected(broker: Broker) -> AsyncIterator[Broker]:
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


async def existing_topic(broker: Broker, name: str) -> TopicInfo:
    """Raises InputError naming a close one."""
    found = await broker.describe_topics([name])
    if name not in found:
        there = await broker.list_topics()
        hint = did_you_mean(name, there, otherwise=f"; there are {', '.join(sorted(there)[:20]) or 'none'}")
        raise InputError(f"no topic {name!r}{hint}")
    return found[name]
