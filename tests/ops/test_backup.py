"""A backup is one moment of an app; brought back, the app goes on as if nothing had been lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from millstream import App, count, tumbling
from millstream.ops.backup import files, take
from millstream.ops.backup.cut import Cut
from millstream.ops.backup.manifest import MANIFEST, Manifest
from millstream.ops.backup.place import Place
from millstream.ops.errors import BackupError, InputError
from millstream.ops.reset import Known
from millstream.state.stores.memory import MemoryDatabases
from millstream.topics.batch import Partition
from millstream.topics.broker import TopicSpec
from millstream.topics.errors import BrokerUnavailableError
from millstream.topics.memory import MemoryBroker
from millstream.workers.clock import monotonic_s
from millstream.workers.errors import FingerprintError
from millstream.workers.startup import COMPACTION_LAG_MS
from millstream.workers.worker import Worker
from tests.contracts.broker_tools import read_to_end
from tests.ops.backup_run import (
    PARTITIONS,
    backed_up,
    backup_of_50_clicks,
    caught_up,
    click,
    cluster,
    expected,
    restored,
    results,
    shop,
    work_until,
)

# -- there and back


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
async def test_after_the_loss_of_the_whole_cluster_the_app_goes_on(tmp_path: Path, guarantee: str) -> None:
    """Stopped in the middle, backed up; a new cluster with the same input; the results are those of an undisturbed run."""
    before = await cluster(100)
    await work_until(before, shop(guarantee), caught_up(before, 100))
    place = Place(f"file://{tmp_path}/backup")
    taken = await backed_up(before, place)
    assert place.manifest() == taken
    given = await results(before)

    after = await cluster(200)
    await restored(after, place, tmp_path)
    await Worker(shop(guarantee), after).run(until_end=True)
    new = await results(after)
    assert (given & new, given | new) == (set(), await expected())


@pytest.mark.parametrize("attempt", range(3))
async def test_a_backup_of_a_running_app_is_one_moment(tmp_path: Path, attempt: int) -> None:
    """Rows under way between two shards are neither lost nor doubled."""
    before = await cluster(40)
    place = Place(f"memory://running-{tmp_path.name}")
    taken: list[Manifest] = []
    async with asyncio.TaskGroup() as tasks:

        async def feed() -> None:
            for first in range(40, 200, 4):
                await click(before, first, first + 4)
                await asyncio.sleep(0)

        async def back_up() -> bool:
            if not taken and await before.group_offsets("shop"):
                taken.append(await backed_up(before, place))
            return bool(taken) and await caught_up(before, 200)()

        tasks.create_task(feed())
        await work_until(before, shop(), back_up)
    after = await cluster(200)
    await restored(after, place, tmp_path)
    await Worker(shop(), after).run(until_end=True)
    whole = await expected()
    new = await results(after)
    assert new <= whole, "a sum that no undisturbed run gives: rows lost or doubled"
    assert await results(before) | new == whole


async def test_a_database_that_was_ahead_of_the_backup_is_not_used(tmp_path: Path) -> None:
    """As on a machine that was not there when its app was restored."""
    broker, databases = await cluster(100), MemoryDatabases()
    place = Place(str(tmp_path / "backup"))
    await work_until(broker, shop(), caught_up(broker, 100), databases)
    await backed_up(broker, place)
    await click(broker, 100, 150)
    await work_until(broker, shop(), caught_up(broker, 150), databases)
    await restored(broker, place, tmp_path, force=True)
    await click(broker, 150, 200)
    await Worker(shop(), broker, databases=databases).run(until_end=True)
    assert await results(broker) == await expected()


async def test_a_partition_may_be_in_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PART_BYTES_MAX", 100)
    monkeypatch.setattr(take, "PART_BYTES_MAX", 100)
    before = await cluster(100)
    await work_until(before, shop(), caught_up(before, 100))
    place = Place(str(tmp_path / "backup"))
    taken = await backed_up(before, place)
    assert len(taken.files) > len({file.of for file in taken.files})
    after = await cluster(200)
    await restored(after, place, tmp_path)
    await Worker(shop(), after).run(until_end=True)
    assert await results(before) | await results(after) == await expected()


async def test_an_app_without_state_has_offsets(tmp_path: Path) -> None:
    def copies() -> App:
        app = App("shop", commit_interval="5ms")
        app.stream(app.topic("clicks", {"user": "string"}, partitions=PARTITIONS)).to("copies")
        return app

    before, after, place = await cluster(50), await cluster(60), Place(str(tmp_path / "backup"))
    await work_until(before, copies(), caught_up(before, 50))
    assert (await backed_up(before, place)).files == ()
    await restored(after, place, tmp_path)
    await Worker(copies(), after).run(until_end=True)
    [fetch] = [one for one in await read_to_end(after, Partition("copies", 0)) if len(one)]
    assert len(fetch) == 10


async def test_a_backup_that_took_longer_than_changelogs_keep_is_refused_while_the_app_goes_on() -> None:
    broker = await cluster(50)
    await work_until(broker, shop(), caught_up(broker, 50))
    cut = Cut(await broker.group_offsets("shop"))
    long_ago = monotonic_s() - COMPACTION_LAG_MS / 1000
    await take._check_age(broker, "shop", cut, long_ago)
    await click(broker, 50, 60)
    await work_until(broker, shop(), caught_up(broker, 60))
    await take._check_age(broker, "shop", cut, monotonic_s())
    with pytest.raises(BackupError, match="app 'shop' went on while its state was read for 600 s"):
        await take._check_age(broker, "shop", cut, long_ago)


async def test_by_its_code_or_by_its_name_the_backup_is_the_same(tmp_path: Path) -> None:
    broker = await cluster(50)
    await work_until(broker, shop(), caught_up(broker, 50))
    one = await backed_up(broker, Place(str(tmp_path / "one")))
    two = await backed_up(broker, Place(str(tmp_path / "two")), known=Known.of(shop()))
    assert (one.topics, one.offsets, one.stores, one.files) == (two.topics, two.offsets, two.stores, two.files)


async def test_code_that_was_changed_meanwhile_is_refused_after_a_restore_too(tmp_path: Path) -> None:
    before = await cluster(50)
    await work_until(before, shop(), caught_up(before, 50))
    place = Place(str(tmp_path / "backup"))
    await backed_up(before, place)
    after = await cluster(50)
    await restored(after, place, tmp_path)
    changed = App("shop")
    schema = {"user": "string", "page": "string", "price": "int", "ts": "timestamp_ms"}
    clicks = changed.topic("clicks", schema, key="user", event_time="ts", partitions=PARTITIONS)
    changed.stream(clicks).window(tumbling("9s"), by="user", name="by_user").agg(n=count()).to("users")
    with pytest.raises(FingerprintError, match="store 'by_user': window tumbling 1s -> tumbling 9s"):
        await Worker(changed, after).run(until_end=True)


# -- what is refused


@pytest.fixture
async def backup(tmp_path: Path) -> Path:
    """The folder of a backup after 50 clicks."""
    return await backup_of_50_clicks(tmp_path / "backup")


async def test_a_backup_is_not_overwritten(backup: Path) -> None:
    before = (backup / MANIFEST).read_bytes()
    with pytest.raises(BackupError, match="there is a backup already"):
        await backed_up(await cluster(10), Place(str(backup)))
    assert (backup / MANIFEST).read_bytes() == before


async def test_an_app_that_is_not_there_has_no_backup(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="app 'shop' has no state and no offsets here"):
        await backed_up(await cluster(10), Place(str(tmp_path / "none")))
    assert not (tmp_path / "none" / MANIFEST).exists()


async def test_what_is_there_is_overwritten_only_by_force(backup: Path, tmp_path: Path) -> None:
    broker = await cluster(70)
    await work_until(broker, shop(), caught_up(broker, 70))
    offsets = await broker.group_offsets("shop")
    with pytest.raises(BackupError, match=r"app 'shop' is not empty here: 4 offsets, .*--force"):
        await restored(broker, Place(str(backup)), tmp_path)
    assert await broker.group_offsets("shop") == offsets
    await restored(broker, Place(str(backup)), tmp_path, force=True)
    assert sum(one.offset for at, one in (await broker.group_offsets("shop")).items() if at.topic == "clicks") == 50


async def test_workers_that_run_are_in_the_way(backup: Path, tmp_path: Path) -> None:
    broker = await cluster(60)

    async def refused() -> bool:
        if not await broker.group_members("shop"):
            return False
        with pytest.raises(InputError, match="app 'shop' has workers"):
            await restored(broker, Place(str(backup)), tmp_path, force=True)
        return True

    await work_until(broker, shop(), refused)


@pytest.mark.parametrize(
    ("clicks", "partitions", "told"),
    [
        (20, 2, "the app would go on from offset"),
        (0, 0, "topic 'clicks' has no partitions here and had 2"),
        (0, 3, "topic 'clicks' has 3 partitions here and had 2"),
    ],
)
async def test_the_topics_it_reads_must_be_back_first(
    backup: Path, tmp_path: Path, clicks: int, partitions: int, told: str
) -> None:
    broker = MemoryBroker()
    if partitions:
        await broker.create_topics([TopicSpec("clicks", partitions)])
        await click(broker, 0, clicks)
    there = await broker.list_topics()
    with pytest.raises(BackupError, match=told):
        await restored(broker, Place(str(backup)), tmp_path)
    assert await broker.list_topics() == there


async def test_a_changed_file_is_found_before_anything_is_changed(backup: Path, tmp_path: Path) -> None:
    place = Place(str(backup))
    file = place.manifest().files[-1].path
    content = bytearray((backup / file).read_bytes())
    content[len(content) // 2] ^= 1
    (backup / file).write_bytes(bytes(content))
    broker = await cluster(70)
    await work_until(broker, shop(), caught_up(broker, 70))
    offsets = await broker.group_offsets("shop")
    with pytest.raises(BackupError, match=f"{file} is not what was backed up"):
        await restored(broker, place, tmp_path, force=True)
    assert await broker.group_offsets("shop") == offsets


async def test_a_restore_that_was_broken_off_lets_no_worker_start_and_can_be_run_again(
    backup: Path, tmp_path: Path
) -> None:
    broker = await cluster(200)
    broker.faults.lose("commit", 1, "before")
    with pytest.raises(Exception, match="commit"):
        await restored(broker, Place(str(backup)), tmp_path)
    with pytest.raises(FingerprintError, match=f"millstream restore shop {backup} --force"):
        await Worker(shop(), broker).run(until_end=True)
    with pytest.raises(BackupError, match=f"app 'shop' is being restored from {backup}"):
        await backed_up(broker, Place(str(tmp_path / "another")))
    await restored(broker, Place(str(backup)), tmp_path, force=True)
    await Worker(shop(), broker).run(until_end=True)
    assert await results(broker) <= await expected()


async def test_a_broker_out_of_reach_is_told(tmp_path: Path) -> None:
    broker = await cluster(1)
    broker.faults.unreachable = True
    with pytest.raises(BrokerUnavailableError):
        await backed_up(broker, Place(str(tmp_path)))
