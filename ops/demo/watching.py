"""Looks four times a second at what the group has committed, and now and then at the workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Final

from ...topics.broker import Broker
from .processes import Workers, phases_of, shards_of
from .progress import Timeline
from .settings import DemoSettings
from .snapshot import WorkerSeen
from .stage import Stage

SAMPLE_S: Final = 0.25
WORKERS_EVERY: Final = 4
"""Looks at the group between two at the workers."""


class Watching:
    """`run` it as a task; `shards` is what each worker said last."""

    def __init__(self, settings: DemoSettings, stage: Stage, broker: Broker, workers: Workers) -> None:
        self._settings = settings
        self._stage = stage
        self._broker = broker
        self._workers = workers
        self.timeline: Timeline | None = None
        """Of what is sent; None before the first event."""
        self.killed: frozenset[int] = frozenset()
        self.shards: dict[int, list[int]] = {}
        self.phases: dict[int, str] = {}
        """What each does, for an error's text."""
        self._worked: set[int] = set()
        """Workers that were ready once."""
        self._is_over = False

    def stop(self) -> None:
        """From now on a worker may end."""
        self._is_over = True

    async def run(self) -> None:
        """Raises Differs for a worker that ended by itself."""
        looks = 0
        while not self._is_over:
            self._workers.raise_if_ended()
            await self.sample()
            if looks % WORKERS_EVERY == 0:
                await self.look_at_workers()
            looks += 1
            await asyncio.sleep(SAMPLE_S)

    async def sample(self) -> None:
        if self.timeline is None:
            return
        offsets = await self._broker.group_offsets(self._settings.app)
        committed = {partition: known.offset for partition, known in offsets.items()}
        self._stage.sampled(self.timeline.sampled(committed, time.monotonic()))

    async def look_at_workers(self) -> None:
        numbers = range(1, self._settings.workers + 1)
        running = [number for number in numbers if number in self._workers.numbers]
        told = await asyncio.gather(*(self._workers.statistics(number) for number in running))
        self.shards = {number: shards_of(one) for number, one in zip(running, told, strict=True)}
        self._worked |= {number for number, shards in self.shards.items() if shards}
        self.phases = {number: phases_of(one) for number, one in zip(running, told, strict=True)}
        self._stage.workers = tuple(self._seen(number) for number in numbers)

    def all_shared(self, numbers: Collection[int]) -> bool:
        """Whether these workers, and no others, work on every partition, each on some."""
        owned = [shard for number in numbers for shard in self.shards.get(number, [])]
        return sorted(owned) == list(range(self._settings.partitions)) and all(self.shards.get(n) for n in numbers)

    def _without(self, number: int) -> str:
        """What a worker does that is not ready."""
        return "takes over partitions" if number not in self.killed and number in self._worked else "joins the group"

    def _seen(self, number: int) -> WorkerSeen:
        name = f"w{number}"
        if number in self.killed and number not in self._workers.numbers:
            return WorkerSeen(name, "bad", "killed; its partitions move")
        if number not in self._workers.numbers:
            return WorkerSeen(name, "idle", "not there")
        shards = self.shards.get(number, [])
        again = ", back again" if number in self.killed and shards else ""
        word = f"{len(shards)} partition{'' if len(shards) == 1 else 's'}{again}" if shards else self._without(number)
        return WorkerSeen(name, "ok" if shards else "warn", word)
