"""Reads the app's output topics as any reader would (committed records only), and remembers every record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Final

import orjson

from ...topics.batch import Partition
from ...topics.broker import Reader
from .errors import Differs

POLL_TIMEOUT_MS: Final = 100
POLL_RECORDS_MAX: Final = 20_000

Record = tuple[bytes | None, bytes | None]


class Outputs:
    """`run` it as a task. `records`: key and value by topic, in the order they were read."""

    def __init__(self, reader: Reader, topics: Collection[str], partitions: int) -> None:
        self._reader = reader
        self._partitions = [Partition(topic, index) for topic in topics for index in range(partitions)]
        self.records: dict[str, list[Record]] = {topic: [] for topic in topics}
        self._moved = asyncio.Event()

    async def run(self) -> None:
        self._reader.assign(dict.fromkeys(self._partitions, 0))
        while True:
            await self._read()

    async def _read(self) -> None:
        fetches = await self._reader.poll(timeout_ms=POLL_TIMEOUT_MS, records_max=POLL_RECORDS_MAX)
        for fetch in fetches:
            records = self.records[fetch.partition.topic]
            records += zip(_bytes(fetch.keys), _bytes(fetch.values), strict=True)
        if fetches:
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()

    async def wait_until(self, is_so: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Raises Differs when it is not so by then."""
        try:
            async with asyncio.timeout(timeout_s):
                while not is_so():
                    await self._moved.wait()
        except TimeoutError:
            raise Differs(f"{what} did not come within {timeout_s:.0f} s") from None

    async def wait_for_ends(self, timeout_s: float) -> None:
        """Until everything is read that is there now. Raises Differs."""
        ends = await self._reader.end_offsets(self._partitions)
        behind = [partition for partition, end in ends.items() if self._reader.position(partition) < end]
        try:
            async with asyncio.timeout(timeout_s):
                while behind:
                    await asyncio.sleep(POLL_TIMEOUT_MS / 1000)
                    behind = [partition for partition in behind if self._reader.position(partition) < ends[partition]]
        except TimeoutError:
            raise Differs(f"{', '.join(map(str, behind))} could not be read to the end") from None

    def last(self, topic: str) -> dict[str, dict[str, Any] | None]:
        """The newest value of each key; None for one that was taken back."""
        return {
            (key or b"").decode(): None if value is None else orjson.loads(value) for key, value in self.records[topic]
        }


def _bytes(column: Any) -> list[bytes | None]:
    """A column may be bytes already, or Arrow's."""
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)
