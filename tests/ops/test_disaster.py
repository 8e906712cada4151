"""The whole of it on real Kafka: a cluster is lost with all it had, and the app goes on from a backup in another one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from millstream.ops.backup.manifest import Manifest
from millstream.ops.backup.place import Place
from millstream.ops.client import connected
from millstream.ops.local_broker import LocalBroker
from millstream.ops.reset import Known, perform_reset, plan_reset
from millstream.topics.broker import Broker, TopicSpec
from millstream.topics.kafka import KafkaBroker
from millstream.workers.worker import Worker
from tests.ops.backup_run import (
    PARTITIONS,
    backed_up,
    caught_up,
    click,
    expected,
    restored,
    results,
    shop,
    work_until,
)

CLICKS = 200


async def _with_clicks(broker: Broker, count: int) -> None:
    await broker.create_topics([TopicSpec("clicks", PARTITIONS)])
    await click(broker, 0, count)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_cluster_is_lost_and_the_app_goes_on_in_another(tmp_path: Path) -> None:
    """Backed up while it works, behind a repartition topic and before it, with rows coming in."""
    place = Place(f"file://{tmp_path}/backup")
    taken: list[Manifest] = []
    with LocalBroker() as lost:
        async with (
            connected(KafkaBroker({"bootstrap.servers": lost.bootstrap})) as broker,
            asyncio.TaskGroup() as tasks,
        ):
            await _with_clicks(broker, 40)

            async def feed() -> None:
                for first in range(40, CLICKS, 8):
                    await click(broker, first, first + 8)

            async def back_up() -> bool:
                if not taken and await caught_up(broker, 40)():
                    tasks.create_task(feed())
                    taken.append(await backed_up(broker, place))
                return bool(taken) and await caught_up(broker, CLICKS)()

            await work_until(KafkaBroker({"bootstrap.servers": lost.bootstrap}), shop(), back_up)
            given = await results(broker)
    with LocalBroker() as new:
        async with connected(KafkaBroker({"bootstrap.servers": new.bootstrap})) as broker:
            await _with_clicks(broker, CLICKS)
            await restored(broker, place, tmp_path)
            await Worker(shop(), KafkaBroker({"bootstrap.servers": new.bootstrap})).run(until_end=True)
            told = await results(broker)
            whole = await expected()
            assert told <= whole, "a sum that no undisturbed run gives: rows lost or doubled"
            assert given | told == whole
            await _begin_in_the_middle(broker, tmp_path)


async def _begin_in_the_middle(broker: Broker, folder: Path) -> None:
    """`reset --to` on the same cluster: offsets of a group without members."""
    plan = await plan_reset(broker, "shop", folder, Known.of(shop()), to="latest")
    await perform_reset(broker, plan)
    there = await broker.group_offsets("shop")
    assert {at: one.offset for at, one in there.items()} == dict(plan.starts)
    assert sum(plan.starts.values()) == CLICKS
