"""`reset` forgets one app, whole, and nothing of another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from millstream import App, count, tumbling
from millstream.ops.errors import InputError
from millstream.ops.reset import Known, ResetPlan, perform_reset, plan_reset, time_ms
from millstream.ops.run import databases_of
from millstream.state.errors import LockedError
from millstream.topics.batch import Partition
from millstream.topics.broker import Broker, TopicSpec
from millstream.topics.memory import MemoryBroker
from millstream.topics.partitioner import murmur2
from millstream.workers.settings import AppSettings
from millstream.workers.worker import Worker
from tests.contracts.broker_tools import records, started
from tests.polling import until

INTERNAL = ("shop-by-page-1-repartition", "shop-fingerprint", "shop-w-changelog")
SECONDS = [1_000, 2_000, 30_000]


def _app(name: str, state_dir: Path) -> App:
    app = App(name, guarantee="at_least_once", state_dir=state_dir)
    clicks = app.topic(
        "clicks", {"user": "string", "page": "string", "ts": "timestamp_ms"}, key="user", event_time="ts"
    )
    app.stream(clicks).window(tumbling("10s"), by="page", name="w").agg(n=count()).to(f"{name}-totals")
    return app


async def _ran(broker: Broker, app: App) -> None:
    await Worker(app, broker, databases=databases_of(app.settings)).run(until_end=True)


@pytest.fixture
async def broker(tmp_path: Path) -> MemoryBroker:
    """Two apps have run, one's name the beginning of the other's."""
    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([TopicSpec("clicks", 2)])
    rows = [b'{"user":"ada","page":"/","ts":%d}' % second for second in SECONDS]
    target = Partition("clicks", murmur2(b"ada") % 2)
    async with started(broker.producer()) as producer:
        await (await producer.send(target, records(*rows, keys=[b"ada"] * 3, timestamps=SECONDS)))
    for name in ("shop", "shop-live"):
        await _ran(broker, _app(name, tmp_path))
    return broker


async def test_an_app_is_forgotten_and_the_other_is_left(broker: MemoryBroker, tmp_path: Path) -> None:
    app = _app("shop", tmp_path)
    plan = await plan_reset(broker, "shop", tmp_path, Known.of(app))
    offsets = await broker.group_offsets("shop")
    assert len(offsets) == 4
    assert plan == ResetPlan("shop", offsets, INTERNAL, tmp_path / "shop", left=("clicks", "shop-totals"))
    assert list(plan.lines()) == [
        "offsets of group shop: 4 partitions",
        "topics to be deleted: shop-by-page-1-repartition, shop-fingerprint, shop-w-changelog",
        f"local state to be deleted: {tmp_path / 'shop'}",
        "left alone: clicks, shop-totals",
    ]
    assert plan.done() == "done: 4 offsets forgotten, 3 topics deleted, local state deleted"
    await perform_reset(broker, plan)
    assert (await plan_reset(broker, "shop", tmp_path, Known.of(app))).empty
    other = await plan_reset(broker, "shop-live", tmp_path)
    assert (len(other.offsets), other.topics, other.state) == (
        4,
        ("shop-live-by-page-1-repartition", "shop-live-fingerprint", "shop-live-w-changelog"),
        tmp_path / "shop-live",
    )
    assert {"clicks", "shop-totals"} <= set(await broker.list_topics())


async def test_a_repartition_that_partition_counts_made_necessary_is_known(tmp_path: Path) -> None:
    """The code alone does not tell that there is one: it follows from the topics that exist."""
    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([TopicSpec("left", 2), TopicSpec("right", 3)])
    app = App("join", state_dir=tmp_path)
    left, right = (app.table(app.topic(name, {"id": "string"}, key="id")) for name in ("left", "right"))
    left.join(right, how="outer").to("both")
    await _ran(broker, app)
    plan = await plan_reset(broker, "join", tmp_path, Known.of(app))
    assert "join-table_join-1-by-id-1-repartition" in plan.topics


async def test_by_name_alone_the_topics_of_an_app_whose_name_begins_alike_are_left(
    broker: MemoryBroker, tmp_path: Path
) -> None:
    plan = await plan_reset(broker, "shop", tmp_path)
    assert plan.topics == INTERNAL


async def test_an_app_begins_anew_after_a_reset(broker: MemoryBroker, tmp_path: Path) -> None:
    """It reads everything again and writes the same results again."""
    app = _app("shop", tmp_path)
    await perform_reset(broker, await plan_reset(broker, "shop", tmp_path, Known.of(app)))
    await _ran(broker, _app("shop", tmp_path))
    from millstream.ops.consume import records_of

    values = [
        record.value
        async for record in records_of(broker, "shop-totals", 1, from_beginning=True, until_end=True, limit=None)
    ]
    half = len(values) // 2
    assert (half > 0, values[:half]) == (True, values[half:])


async def test_a_worker_that_runs_here_is_in_the_way_and_nothing_is_lost(broker: MemoryBroker, tmp_path: Path) -> None:
    plan = await plan_reset(broker, "shop", tmp_path)
    held = databases_of(AppSettings.of("shop", state_dir=tmp_path))
    with pytest.raises(LockedError):
        await perform_reset(broker, plan)
    held.close()
    assert await plan_reset(broker, "shop", tmp_path) == plan


async def test_while_somebody_works_in_the_group_nothing_is_done(broker: MemoryBroker, tmp_path: Path) -> None:
    worker = Worker(_app("shop", tmp_path), broker)
    running = asyncio.create_task(worker.run())

    async def ready() -> bool:
        return worker.ready

    await until(ready)
    plan = await plan_reset(broker, "shop", tmp_path)
    assert plan.members != ()
    with pytest.raises(InputError, match=rf"app 'shop' has workers: {plan.members[0]}; stop them first"):
        await perform_reset(broker, plan)
    assert (tmp_path / "shop").is_dir()
    worker.stop()
    await running
    assert (await plan_reset(broker, "shop", tmp_path)).members == ()


@pytest.mark.parametrize(
    ("to", "offsets"),
    [
        ("earliest", {0}),
        ("latest", {0, 3}),
        ("1970-01-01T00:00:02+00:00", {0, 1}),
        ("1970-01-01T01:00:30+01:00", {0, 2}),
        ("1970-01-01T00:00:30", {0, 2}),
    ],
)
async def test_where_it_begins_afterwards(broker: MemoryBroker, tmp_path: Path, to: str, offsets: set[int]) -> None:
    """All three clicks are in one partition of two. With the app's code or without."""
    plan = await plan_reset(broker, "shop", tmp_path, Known.of(_app("shop", tmp_path)), to)
    assert (await plan_reset(broker, "shop", tmp_path, to=to)).starts == plan.starts
    assert ({one.topic for one in plan.starts}, set(plan.starts.values())) == ({"clicks"}, offsets)
    await perform_reset(broker, plan)
    assert {p: one.offset for p, one in (await broker.group_offsets("shop")).items()} == plan.starts


@pytest.mark.parametrize("to", ["yesterday", "", "2026-13-01"])
def test_a_time_that_is_none_is_told(to: str) -> None:
    with pytest.raises(InputError, match="expected earliest, latest, or a time"):
        time_ms(to)


async def test_where_to_begin_needs_to_know_what_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give its TARGET"):
        await plan_reset(MemoryBroker(), "shop", tmp_path, to="latest")


async def test_nothing_to_forget(tmp_path: Path) -> None:
    plan = await plan_reset(MemoryBroker(), "shop", tmp_path)
    assert (plan.empty, list(plan.lines())) == (
        True,
        [
            "offsets: none",
            "topics to be deleted: none",
            "local state: none here",
            "left alone: every topic the app reads or writes",
        ],
    )
