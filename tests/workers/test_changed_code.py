"""What goes through goes on rightly: code that was changed beside a store finds it, and its results are as if nothing had been."""

from __future__ import annotations

import polars as pl
import pytest

from millstream import App
from millstream.state.stores.memory import MemoryDatabases
from millstream.topics.memory import MemoryBroker
from millstream.workers.worker import Worker
from tests.ops.backup_run import caught_up, click, cluster, expected, results, shop, work_until

VIEWS = {"user": "string", "ts": "timestamp_ms"}


def as_it_was() -> App:
    return shop()


def with_a_branch_behind() -> App:
    app = shop()
    app.stream(app.topic("views", VIEWS, event_time="ts", partitions=2)).filter(pl.col("ts") > 0).to("seen")
    return app


def with_another_pipeline_before() -> App:
    """Its sub-topology takes the number of the one that was the first."""
    app = App("shop", commit_interval="5ms", retry_backoff_ms=5)
    views = app.stream(app.topic("views", VIEWS, key="user", event_time="ts", partitions=2))
    views.filter(pl.col("ts") > 0).to("seen")
    return shop(into=app)


CHANGES = [as_it_was, with_a_branch_behind, with_another_pipeline_before]


@pytest.mark.parametrize("disk", ["kept", "lost"])
@pytest.mark.parametrize("changed", CHANGES)
async def test_a_store_goes_on_through_changes_beside_it(changed, disk: str) -> None:
    broker, databases = await cluster(100), MemoryDatabases()
    await work_until(broker, shop(), caught_up(broker, 100), databases)
    if disk == "lost":
        databases = MemoryDatabases()
    await click(broker, 100, 200)
    await work_until(broker, changed(), caught_up(broker, 200), databases)
    await _finish(broker, changed(), databases)
    assert await results(broker) == await expected()


async def _finish(broker: MemoryBroker, app: App, databases: MemoryDatabases) -> None:
    await Worker(app, broker, databases=databases).run(until_end=True)
