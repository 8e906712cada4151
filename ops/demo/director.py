"""Does what the story tells, step by step, and measures it. The shell of the demo: everything that waits is here.

Beside the steps run, each as a task: the traffic, a reader of the outputs, a source that watches the documents' folder, and
a look at the group four times a second. One of them that fails ends the demo; so does a step that takes too long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import orjson

from ...topics.batch import Partition
from ...topics.broker import Broker
from ...topics.source import FileMemory, pump
from ...topics.sources.files import Files
from . import story
from .answers import changes
from .asking import Asker
from .errors import Differs
from .feed import together
from .figures import rate, span, whole
from .outputs import Outputs
from .place import Place
from .processes import Workers
from .progress import moved_again_at
from .settings import DemoSettings
from .snapshot import WorkerSeen
from .stage import Stage
from .traffic import Traffic, now_ms
from .truth import WINDOW_MS, Recount, Results, falsified, pairs_of, recount, sales_of
from .watching import Watching

VICTIM = 2
IN_DOUBT_S = 0.5
"""What a killed worker had handed to the broker may still be committed for so long; later movement is the others'."""
READ_TOPICS = ("sales", "bought", "answers", "documents-status")
LAST_DOCUMENT = ("Which city is the wall clock made in?", "products/wall-clock.md")


class Director:
    """`run` tells the whole story. Raises Differs when something came out wrong."""

    def __init__(
        self,
        settings: DemoSettings,
        stage: Stage,
        place: Place,
        broker: Broker,
        *,
        workers: Workers,
        embedder: str,
    ) -> None:
        self.settings = settings
        self.stage = stage
        self.place = place
        self.broker = broker
        self.workers = workers
        self.embedder = embedder
        self.watching = Watching(settings, stage, broker, workers)
        self.producer, self._reader = broker.producer(), broker.reader()
        read = [settings.topic(name) for name in READ_TOPICS]
        self.outputs = Outputs(self._reader, read, settings.partitions)
        self.asker = Asker(settings, self.producer, self.outputs)
        self.traffic = Traffic(settings, self.producer)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            await self.producer.start()
            stack.push_async_callback(self.producer.stop)
            await self._reader.start()
            stack.push_async_callback(self._reader.stop)
            await self._with_tasks()

    async def _with_tasks(self) -> None:
        """The first error of any of the tasks, or of the steps."""
        steps = self._beside(self._steps())
        try:
            while not steps.done():
                done, _ = await asyncio.wait(self._tasks, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._tasks.discard(task)
                    await task
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        return task

    async def _steps(self) -> None:
        await self._workers_join()
        await self._documents_are_read()
        await self._events_flow()
        await self._answers_change()
        await self._a_worker_is_killed()
        await self._everything_is_recounted()

    async def _until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self.settings.step_timeout_s
        while not is_so():
            if time.monotonic() > deadline:
                doing = "; ".join(f"w{number} {phases}" for number, phases in self.watching.phases.items())
                raise Differs(f"{what} did not happen within {self.settings.step_timeout_s:.0f} s\n{doing}")
            await asyncio.sleep(0.05)

    # -- the steps

    async def _workers_join(self) -> None:
        self.stage.begin(story.WORKERS)
        self.stage.note = "two processes, each with its own state on disk; Kafka shares the partitions among them"
        began = time.monotonic()
        everybody = range(1, self.settings.workers + 1)
        for number in everybody:
            self.workers.start(number)
        self._beside(self.watching.run())
        await self._until(lambda: self.watching.all_shared(everybody), "sharing the partitions among the workers")
        shares = " and ".join(str(len(self.watching.shards[number])) for number in everybody)
        self.stage.done(f"{span((time.monotonic() - began) * 1000)}, {shares} partitions")

    async def _documents_are_read(self) -> None:
        files = sum(1 for path in self.place.documents.rglob("*.md"))
        self.stage.begin(story.DOCUMENTS, f"Read {files} documents into the index, embedder {self.embedder}")
        self._beside(self.outputs.run())  # the workers have made the topics by now
        began = time.monotonic()
        topic = self.settings.topic("documents")
        source = Files(self.place.documents)
        memory = FileMemory(self.place.memory)
        self._beside(pump(source, self.producer, topic, self.settings.partitions, memory))
        await self.outputs.wait_until(
            lambda: len(self._statuses()) >= files, self.settings.step_timeout_s, f"the state of {files} documents"
        )
        found = self._statuses()
        bad = [uri for uri, status in found.items() if status is None or status["state"] != "indexed"]
        if bad:
            raise Differs(f"not indexed: {', '.join(bad)}: {found[bad[0]]}")
        question, document = LAST_DOCUMENT
        await self.asker.ask_until(question, lambda answer: document in answer.sources[:1])
        chunks = sum(status["chunks"] for status in found.values() if status)
        self.stage.done(f"{chunks} chunks, findable after {span((time.monotonic() - began) * 1000)}")

    def _statuses(self) -> dict[str, dict[str, Any] | None]:
        return self.outputs.last(self.settings.topic("documents-status"))

    async def _events_flow(self) -> None:
        self.stage.begin(story.EVENTS)
        live_ms = now_ms()
        await self.traffic.history(live_ms)
        self.watching.timeline = self.traffic.timeline
        self._flowing = self._beside(self.traffic.run(live_ms))
        began = time.monotonic()
        wanted = live_ms // WINDOW_MS * WINDOW_MS + WINDOW_MS
        await self.outputs.wait_until(
            lambda: any(row["window_start"] >= wanted for row in self._rows("sales")),
            self.settings.step_timeout_s + 2 * WINDOW_MS / 1000,
            "a window of events that arrived live",
        )
        await asyncio.sleep(max(0.0, began + self.settings.flow_s - time.monotonic()))
        windows = len({row["window_start"] for row in self._rows("sales")})
        came = (sum(map(len, self.traffic.sent)) - self.settings.history_rows) / (time.monotonic() - began)
        behind = self.stage.samples[-1].behind_s * 1000
        self.stage.done(f"{rate(came)}, {span(behind)} behind; {windows} windows")

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return [orjson.loads(value) for _, value in self.outputs.records[self.settings.topic(name)] if value]

    async def _answers_change(self) -> None:
        self.stage.begin(story.ANSWERS)
        figure = await changes(self.stage, self.place, self.asker, self.outputs, self.settings)
        self.stage.done(figure)

    async def _a_worker_is_killed(self) -> None:
        self.stage.begin(story.KILL)
        lost = self.watching.shards[VICTIM]
        self.watching.killed = frozenset({VICTIM})
        killed = time.monotonic()
        self.workers.kill(VICTIM)
        await asyncio.sleep(IN_DOUBT_S)
        await self.watching.sample()
        since = time.monotonic()
        partitions = [Partition(self.settings.topic(name), index) for name in ("orders", "views") for index in lost]
        moved: list[float] = []

        def has_moved() -> bool:
            at = moved_again_at(self.stage.samples, partitions, since)
            moved.extend([] if at is None else [at])
            return at is not None

        await self._until(has_moved, f"progress on partitions {lost} of the killed worker")
        self.workers.start(VICTIM)
        everybody = range(1, self.settings.workers + 1)
        await self._until(lambda: self.watching.all_shared(everybody), "the worker's coming back")
        back = span((time.monotonic() - killed) * 1000)
        self.stage.done(f"moves again after {span((moved[0] - killed) * 1000)}, back after {back}")

    async def _everything_is_recounted(self) -> None:
        self.stage.begin(story.RECOUNT)
        self.traffic.stop()
        await asyncio.wait([self._flowing])
        await self.traffic.close()
        truth = together(self.traffic.sent)
        sales, pairs = sales_of(truth.orders, self.traffic.final_up_to_ms), pairs_of(truth)
        bought, sold = self.settings.topic("bought"), self.settings.topic("sales")
        await self._settled(lambda: len(self.outputs.records[bought]) >= len(pairs))
        await self._settled(lambda: len(self.outputs.records[sold]) >= len(sales))
        await self._stop_workers()
        await self.outputs.wait_for_ends(self.settings.step_timeout_s)
        if self.settings.falsify:
            truth = falsified(truth)
            sales = sales_of(truth.orders, self.traffic.final_up_to_ms)
        found = self._sales(sales) + self._pairs(pairs)
        if not found.is_right:
            raise Differs("\n".join([str(found), *found.examples]))
        self.stage.done(f"{whole(found.right)} of {whole(found.expected)} right, none lost, none twice")

    async def _settled(self, is_so: Callable[[], bool]) -> None:
        """Waits for what must come; what does not come in time is the recount's to tell."""
        try:
            await self._until(is_so, "")
        except Differs:
            return

    async def _stop_workers(self) -> None:
        """In good order, so that nothing can come any more."""
        numbers = self.workers.numbers
        self.watching.stop()
        await asyncio.gather(*(self.workers.stop(number) for number in numbers))
        self.stage.workers = tuple(WorkerSeen(f"w{number}", "idle", "stopped in good order") for number in numbers)

    def _sales(self, expected: Results) -> Recount:
        seen = [((row["product"], row["window_start"]), (row["n"], row["cents"])) for row in self._rows("sales")]
        return recount("sales", expected, seen)

    def _pairs(self, expected: Results) -> Recount:
        seen = [
            ((row["order"], row["view"]), (row["cents"], row["ts_right"], row["ts"])) for row in self._rows("bought")
        ]
        return recount("pair", expected, seen)
