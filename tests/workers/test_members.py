"""Workers as members of a group on a real Kafka: restarts that nobody notices, a second process of one name, warm state found again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.topics.errors import DuplicateMemberError
from tests.workers.sums import members

pytestmark = pytest.mark.kafka


async def test_a_rolling_restart_moves_nothing(kafka: str, unique: Callable[[str], str], tmp_path: Path) -> None:
    """Each worker is stopped and started once: no rebalance, every shard where it was, not one changelog record read."""
    async with members(kafka, unique("rolling"), tmp_path) as group:
        names = ("one", "two", "three")
        workers = {name: group.start(name) for name in names}
        await group.all_ready(*workers.values())
        await group.produce(100)
        await group.counts(1)
        generation = workers["one"].generation
        owned = {name: member.shards for name, member in workers.items()}
        for name in names:
            await workers[name].stop()
            workers[name] = group.start(name)
            await group.all_ready(*workers.values())
        assert {name: member.shards for name, member in workers.items()} == owned
        assert {member.generation for member in workers.values()} == {generation}
        assert [member.told.total("restored_records") for member in workers.values()] == [0, 0, 0]
        await group.produce(100)
        await group.counts(2)


async def test_without_the_state_folder_the_records_are_read(
    kafka: str, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """Negative control of the zeros above; the sums go on all the same."""
    async with members(kafka, unique("lost"), tmp_path) as group:
        member = group.start("one")
        await group.all_ready(member)
        await group.produce(100)
        await group.counts(1)
        await member.stop()
        member = group.start("one", folder="another")
        await group.all_ready(member)
        assert member.told.total("restored_records") >= 300
        await group.produce(100)
        await group.counts(2)


async def test_of_two_processes_with_one_id_one_stops_with_an_error_and_the_other_works(
    kafka: str, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """The one that joined later goes on (it may be the restart of the other), and they do not take turns."""
    async with members(kafka, unique("twins"), tmp_path) as group:
        first = group.start("same", folder="one")
        await group.all_ready(first)
        second = group.start("same", folder="two")
        with pytest.raises(DuplicateMemberError, match=r"group\.instance\.id 'same'"):
            async with asyncio.timeout(60):
                await first.running
        await group.all_ready(second)
        await group.produce(50)
        await group.counts(1)
        assert not second.running.done()


async def test_a_stop_for_good_is_noticed_at_once(kafka: str, unique: Callable[[str], str], tmp_path: Path) -> None:
    """The others need not wait for the session: the group has a new generation as soon as the worker has left."""
    async with members(kafka, unique("leaving"), tmp_path) as group:
        one, two = group.start("one"), group.start("two")
        await group.all_ready(one, two)
        before = one.generation
        await two.stop(leave=True)
        await group.all_ready(one)
        assert one.generation == before + 1
