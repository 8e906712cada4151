"""A watched folder beside a worker: its files become records of the documents topic for as long as the worker runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..topics.broker import Broker
from ..topics.errors import BrokerUnavailableError

TOPIC_POLL_S: Final = 0.2
RETRY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class FolderFeed:
    """What is watched, and where it goes."""

    folder: Path
    topic: str
    bytes_max: int | None = None
    """Larger files are left out; None: as the source has it."""


@asynccontextmanager
async def feeding(
    feeds: Sequence[FolderFeed], broker: Callable[[], Broker], memory: Path, failed: Callable[[], None]
) -> AsyncIterator[None]:
    """Feeds the topics meanwhile. `memory`: folder of what was already given. `failed` is called when a feed cannot go on,
    and what ended it is raised at the end. Several workers may watch one folder: a document that is the same costs nothing.
    """
    tasks = [asyncio.create_task(_feed(one, broker(), memory / f"{one.topic}.json")) for one in feeds]
    for task in tasks:
        task.add_done_callback(lambda done: None if done.cancelled() else failed())
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def _feed(feed: FolderFeed, broker: Broker, memory: Path) -> None:
    """Until it is cancelled; begins again where it was when the broker goes away."""
    while True:
        with suppress(BrokerUnavailableError):
            await _feed_once(feed, broker, memory)
        await asyncio.sleep(RETRY_S)


async def _feed_once(feed: FolderFeed, broker: Broker, memory: Path) -> None:
    from ..topics.source import FileMemory, pump
    from ..topics.sources.files import Files

    source = Files(feed.folder) if feed.bytes_max is None else Files(feed.folder, bytes_max=feed.bytes_max)
    await broker.start()
    producer = broker.producer()
    try:
        partitions = await _partitions(broker, feed.topic)
        await producer.start()
        await pump(source, producer, feed.topic, partitions, FileMemory(memory))
    finally:
        await producer.stop()
        await broker.stop()


async def _partitions(broker: Broker, topic: str) -> int:
    """Waits for the worker to make the topic."""
    while topic not in (found := await broker.describe_topics([topic])):  # noqa: ASYNC110 - a broker tells nobody
        await asyncio.sleep(TOPIC_POLL_S)
    return found[topic].partitions
