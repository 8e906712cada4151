"""Sends the feed's orders and views as they happen, and keeps what was acknowledged: the truth of the recount."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

from ...topics.batch import Partition, Records
from ...topics.broker import Producer
from ...topics.partitioner import murmur2_partitions
from .feed import USERS, Feed, Rows
from .progress import Timeline
from .settings import DemoSettings

TICK_S: Final = 0.1
CLOSING_MS: Final = 60_000
"""How far ahead of the last events the closing ones are: every window that holds an event ends before."""
ORDERS_SHARE: Final = 0.2


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Traffic:
    """`history`, then `run` as a task until it is cancelled between two ticks by `stop`, then `close`."""

    def __init__(self, settings: DemoSettings, producer: Producer) -> None:
        self._settings = settings
        self._producer = producer
        self._feed = Feed(settings.seed)
        self._ends = asyncio.Event()
        self.sent: list[Rows] = []
        self.timeline = Timeline()
        self.final_up_to_ms = 0
        """Event time that every partition has passed, once it is closed."""

    async def history(self, until_ms: int) -> None:
        """What happened before the demo began, at once: orders find views that are up to five minutes old, and older ones."""
        rows = self._settings.history_rows
        begin = until_ms - self._settings.history_s * 1000
        await self._send(self._feed.take(begin, until_ms, *_shares(rows)))

    async def run(self, begin_ms: int) -> None:
        """From then on, every tick what happened since the last one."""
        last = begin_ms
        left = 0.0
        while not self._ends.is_set():
            now = now_ms()
            left += self._settings.rate_per_s * (now - last) / 1000
            count, left = int(left), left % 1
            if now > last:
                await self._send(self._feed.take(last, now, *_shares(count)))
            last = max(now, last)
            await asyncio.sleep(TICK_S)

    def stop(self) -> None:
        """After the tick under way."""
        self._ends.set()

    async def close(self) -> None:
        """One order and one view far ahead in every partition, so that everything before them becomes final."""
        at = now_ms() + CLOSING_MS
        await self._send(self._feed.closing(at, users_of_all(self._settings.partitions)))
        self.final_up_to_ms = at - 2_000  # the topics' out_of_order, and a second for nothing

    async def _send(self, rows: Rows) -> None:
        sent = [
            *await self._columns(self._settings.topic("orders"), rows.orders),
            *await self._columns(self._settings.topic("views"), rows.views),
        ]
        for partition, acknowledged in sent:
            self.timeline.note(partition, time.monotonic(), await acknowledged)
        self.sent.append(rows)

    async def _columns(self, topic: str, frame: pl.DataFrame) -> list[tuple[Partition, asyncio.Future[int]]]:
        """Handed over by partition; the futures give the offset after the last record."""
        if frame.height == 0:
            return []
        keys = pa.array([user.encode() for user in frame["user"]], pa.large_binary())
        values = pa.array([orjson.dumps(row) for row in frame.to_dicts()], pa.large_binary())
        targets = murmur2_partitions(keys, self._settings.partitions)
        sent: list[tuple[Partition, asyncio.Future[int]]] = []
        for index in range(self._settings.partitions):
            mine = np.flatnonzero(targets == index)
            if len(mine):
                partition = Partition(topic, index)
                waiting = await self._producer.send(partition, Records(keys.take(mine), values.take(mine)))
                sent.append((partition, asyncio.ensure_future(waiting)))
        return sent


def _shares(rows: int) -> tuple[int, int]:
    orders = round(rows * ORDERS_SHARE)
    return orders, rows - orders


def users_of_all(partitions: int) -> list[str]:
    """One user a partition."""
    users = [f"user-{number}" for number in range(USERS)]
    keys = pa.array([user.encode() for user in users], pa.large_binary())
    first: dict[int, str] = {}
    for user, index in zip(users, murmur2_partitions(keys, partitions).tolist(), strict=True):
        first.setdefault(index, user)
    return [first[index] for index in sorted(first)]
