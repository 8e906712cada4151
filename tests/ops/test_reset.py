"""`reset` forgets one app, whole, and nothing of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from millstream import App, count, tumbling
from millstream.ops.produce import Row, send
from millstream.ops.reset import ResetPlan, internal_names, perform_reset, plan_reset
from millstream.ops.run import databases_of
from millstream.state.errors import LockedError
from millstream.topics.broker import Broker, TopicSpec
from millstream.topics.memory import MemoryBroker
from millstream.workers.settings import AppSettings
from millstream.workers.worker import Worker


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
    rows = [Row(b"ada", b'{"user":"ada","page":"/","ts":%d}' % second) for second in (1_000, 2_000, 30_000)]
    await send(broker, "clicks", 2, rows)
    for name in ("shop", "shop-live"):
        await _ran(broker, _app(name, tmp_path))
    return broker


async def test_an_app_is_forgotten_and_the_other_is_left(broker: MemoryBroker, tmp_path: Path) -> None:
    app = _app("shop", tmp_path)
    plan = await plan_reset(broker, "shop", tmp_path, internal_names(app))
    assert plan == ResetPlan(
        "shop", plan.partitions, ("shop-by-page-1-repartition", "shop-w-changelog"), tmp_path / "shop"
    )
    assert plan.partitions > 0
    await perform_reset(broker, plan)
    assert (await plan_reset(broker, "shop", tmp_path, internal_names(app))).empty
    other = await plan_reset(broker, "shop-live", tmp_path)
    assert (other.partitions > 0, other.topics, other.state) == (
        True,
        ("shop-live-by-page-1-repartition", "shop-live-w-changelog"),
        tmp_path / "shop-live",
    )
    assert {"clicks", "shop-totals"} <= set(await broker.list_topics())


async def test_by_name_alone_the_topics_of_an_app_whose_name_begins_alike_are_left(
    broker: MemoryBroker, tmp_path: Path
) -> None:
    plan = await plan_reset(broker, "shop", tmp_path)
    assert plan.topics == ("shop-by-page-1-repartition", "shop-w-changelog")


async def test_an_app_begins_anew_after_a_reset(broker: MemoryBroker, tmp_path: Path) -> None:
    """It reads everything again and writes the same results again."""
    app = _app("shop", tmp_path)
    await perform_reset(broker, await plan_reset(broker, "shop", tmp_path, internal_names(app)))
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


async def test_nothing_to_forget(tmp_path: Path) -> None:
    plan = await plan_reset(MemoryBroker(), "shop", tmp_path)
    assert (plan.empty, list(plan.lines())) == (True, ["offsets: none", "topics: none", "local state: none here"])
