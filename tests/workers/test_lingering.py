"""A worker that ends leaves nothing of its steps behind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from millstream.topics.broker import TopicSpec
from millstream.topics.memory import MemoryBroker
from millstream.workers import lingering
from millstream.workers.app import App
from millstream.workers.operators.filter import Filter
from millstream.workers.worker import Worker


@dataclass(frozen=True, slots=True)
class Lingering(Filter):
    """A filter whose tasks share what takes a moment to close."""

    ended: list[str] = field(default_factory=list, compare=False, repr=False)
    ends: bool = True

    async def closed(self) -> None:
        await (asyncio.sleep(0) if self.ends else asyncio.get_running_loop().create_future())
        self.ended.append("closed")


async def _run(step: Any) -> None:
    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([TopicSpec("in", 1)])
    app = App("shop")
    app.stream(app.topic("in", {"n": "int"}, partitions=1)).then(step, name="kept").to("out")
    async with asyncio.timeout(60):
        await Worker(app, broker).run(until_end=True)


def _step(**options: Any) -> Lingering:
    import polars as pl

    return Lingering(pl.col("n") > 0, **options)


async def test_a_worker_ends_when_what_its_steps_share_is_closed() -> None:
    step = _step()
    await _run(step)
    assert step.ended == ["closed"]


async def test_it_ends_all_the_same_where_that_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lingering, "LET_GO_TIMEOUT_S", 0.01)
    await _run(_step(ends=False))
    assert "was not closed within" in caplog.text
