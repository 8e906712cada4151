"""A folder beside a worker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from millstream.ops.consume import records_of
from millstream.ops.feed import FolderFeed, feeding
from millstream.topics.broker import TopicSpec
from millstream.topics.errors import ConfigurationError
from millstream.topics.memory import MemoryBroker


async def _keys(broker: MemoryBroker, count: int) -> list[bytes | None]:
    records = records_of(broker, "docs", 1, from_beginning=True, until_end=False, limit=count)
    async with asyncio.timeout(30):
        return sorted([record.key async for record in records], key=bool)


async def test_files_become_records_and_are_not_given_again(tmp_path: Path) -> None:
    """The memory outlives the worker: a second start gives only what changed."""
    broker, folder = MemoryBroker(), tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    await broker.create_topics([TopicSpec("docs", 1)])
    feeds = [FolderFeed(folder, "docs")]
    async with feeding(feeds, lambda: broker, tmp_path / "memory", asyncio.Event().set):
        assert await _keys(broker, 1) == [b"a.txt"]
        while not (tmp_path / "memory" / "docs.json").exists():
            await asyncio.sleep(0)
    (folder / "b.txt").write_text("two")
    async with feeding(feeds, lambda: broker, tmp_path / "memory", asyncio.Event().set):
        assert await _keys(broker, 2) == [b"a.txt", b"b.txt"]


async def test_a_folder_that_is_not_there_stops_the_worker_and_is_told(tmp_path: Path) -> None:
    stopped = asyncio.Event()
    with pytest.raises(ConfigurationError, match="no folder"):
        async with (
            feeding([FolderFeed(tmp_path / "no", "docs")], MemoryBroker, tmp_path, stopped.set),
            asyncio.timeout(30),
        ):
            await stopped.wait()
