"""Follows the topics of an app's global tables: read to their end before the worker joins its group, then as records come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from ..topics.batch import Partition
from ..topics.broker import Broker, Reader
from ..topics.errors import BrokerUnavailableError
from ..topics.topic import Topic
from .global_rows import GlobalRows
from .instrument import Instrument

log = logging.getLogger("millstream.worker")

POLL_RECORDS_MAX = 20_000
POLL_TIMEOUT_MS = 200
RETRY_S = 0.5


class GlobalTables:
    """Of one worker. `counts`: partitions by topic."""

    def __init__(
        self, broker: Broker, topics: Sequence[Topic], counts: Mapping[str, int], instrument: Instrument
    ) -> None:
        self.rows: dict[str, GlobalRows] = {topic.name: GlobalRows(topic, instrument) for topic in topics}
        self._broker = broker
        self._partitions = [Partition(name, index) for name in self.rows for index in range(counts[name])]
        self._reader: Reader | None = None

    async def load(self) -> None:
        """Reads everything there is now. Raises TopicsError, UserFunctionError."""
        if not self._partitions:
            return
        await self.stop()  # of an attempt before this one
        reader = self._broker.reader(isolation="read_committed")
        await reader.start()
        self._reader = reader
        begins, ends = await reader.begin_offsets(self._partitions), await reader.end_offsets(self._partitions)
        reader.assign(begins)
        while any(reader.position(partition) < ends[partition] for partition in self._partitions):
            await self._take(reader)
        log.info("global tables: %s", ", ".join(f"{name} has {len(rows)} rows" for name, rows in self.rows.items()))

    async def follow(self) -> None:
        """Until it is cancelled. While the broker is out of reach the tables stay as they are."""
        while self._reader is not None:
            try:
                await self._take(self._reader)
            except BrokerUnavailableError:
                await asyncio.sleep(RETRY_S)

    async def stop(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.stop()

    async def _take(self, reader: Reader) -> None:
        for fetch in await reader.poll(timeout_ms=POLL_TIMEOUT_MS, records_max=POLL_RECORDS_MAX):
            if len(fetch):
                await asyncio.to_thread(self.rows[fetch.partition.topic].take, fetch)
