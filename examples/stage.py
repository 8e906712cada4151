"""What the examples need around their pipelines: Kafka on this machine, a worker, and the topics as any program sees them.

    raise SystemExit(play(Path(__file__).parent, "pipeline.yaml", story))     # a real Kafka, and `millstream run` as a process

    async with in_memory(folder, "pipeline.yaml") as stage:                   # without Kafka, for tests
        await story(stage)

A story is a coroutine that puts things into topics, waits for what comes out of others, and says what it sees. What is not
as it must be raises Untrue.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import orjson

from millstream import App
from millstream.client import AsyncClient
from millstream.ops.consume import records_of
from millstream.ops.demo.run import terminated_as_interrupted
from millstream.ops.feed import feeding
from millstream.ops.load import load
from millstream.ops.local_broker import LocalBroker, LocalBrokerError
from millstream.ops.produce import Row, key_of, send
from millstream.rag.pipeline import bind_answers
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.broker import Broker
from millstream.topics.kafka.broker import KafkaBroker
from millstream.topics.memory import MemoryBroker
from millstream.workers.app import outside_topics
from millstream.workers.worker import Worker

WAIT_S = 120
"""For anything that must happen: seconds on a machine with nothing else to do, longer on one that is busy."""

T = TypeVar("T")
Fields = Mapping[str, Any]
Story = Callable[["Stage"], Awaitable[None]]


class Untrue(Exception):
    """Something is not as the story tells it."""


class Stage:
    """One run of an example. `folder`: a copy of the example's own, for a story to edit; `check`: raises when the worker is gone."""

    def __init__(self, app: App, broker: Broker, folder: Path, check: Callable[[], None]) -> None:
        self.app = app
        self.broker = broker
        self.folder = folder
        self.client = AsyncClient(app.name, broker=broker, timeout_s=WAIT_S)
        self._topics = {one.name: one for one in outside_topics(app.graph)}
        self._check = check
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._newest: dict[str, dict[bytes | None, dict[str, Any]]] = {}
        self._readers: list[asyncio.Task[None]] = []

    # -- what is said

    def say(self, mark: str, *lines: str) -> None:
        """A line that begins with a mark, and those below it."""
        for number, line in enumerate(lines):
            print(f" {'' if number else mark:<2} {line}", flush=True)

    def expect(self, what: str, actual: object, expected: object) -> None:
        """Says that it is so. Raises Untrue where it is not."""
        if actual != expected:
            raise Untrue(f"{what}: expected {expected!r}, got {actual!r}")
        self.say("✓", what)

    async def soon(self, what: Awaitable[T], name: str) -> T:
        """What it gives. Raises Untrue when that takes too long."""
        try:
            return await asyncio.wait_for(what, WAIT_S)
        except TimeoutError:
            raise Untrue(f"{name} did not come within {WAIT_S} s") from None

    # -- topics

    async def send(self, topic: str, rows: Sequence[Fields]) -> None:
        """Rows as JSON records, with the keys that the topic is declared with."""
        key = self._topics[topic].key
        values = [orjson.dumps(row) for row in rows]
        records = [Row(key_of(value, key, topic) if key else None, value) for value in values]
        await send(self.broker, topic, await self._partitions(topic), records)

    async def row(self, topic: str, **fields: Any) -> dict[str, Any]:
        """The first row of a topic, from its beginning, that has these fields. Raises Untrue when none comes."""
        return (await self.rows(topic, 1, **fields))[0]

    async def rows(self, topic: str, count: int, **fields: Any) -> list[dict[str, Any]]:
        """At least so many of them, in the order in which they came."""
        deadline = time.monotonic() + WAIT_S
        while len(found := self.seen(topic, **fields)) < count:
            if topic not in self._rows:
                self._listen(topic)
            self._check()
            if time.monotonic() > deadline:
                raise Untrue(f"{topic}: {len(found)} of {count} rows with {fields} came within {WAIT_S} s")
            await asyncio.sleep(0.02)
        return found

    def seen(self, topic: str, **fields: Any) -> list[dict[str, Any]]:
        """Those that have come by now."""
        return [row for row in self._rows.get(topic, ()) if fields.items() <= row.items()]

    async def left(self, topic: str, count: int) -> list[dict[str, Any]]:
        """The newest row of each key, once so many are left: a record without a value takes one away."""
        deadline = time.monotonic() + WAIT_S
        await self.rows(topic, 0)
        while len(self._newest[topic]) != count:
            self._check()
            if time.monotonic() > deadline:
                raise Untrue(f"{topic}: {len(self._newest[topic])} keys have a row after {WAIT_S} s, expected {count}")
            await asyncio.sleep(0.02)
        return list(self._newest[topic].values())

    def _listen(self, topic: str) -> None:
        self._rows[topic] = []
        self._newest[topic] = {}
        self._readers.append(asyncio.create_task(self._read(topic)))

    async def _read(self, topic: str) -> None:
        partitions = await self._partitions(topic)
        records = records_of(self.broker, topic, partitions, from_beginning=True, until_end=False, limit=None)
        async for record in records:
            if record.value is None:
                self._newest[topic].pop(record.key, None)
            else:
                row = orjson.loads(record.value)
                self._rows[topic].append(row)
                self._newest[topic][record.key] = row

    async def _partitions(self, topic: str) -> int:
        return (await self.broker.describe_topics([topic]))[topic].partitions

    # -- beginning and end

    async def __aenter__(self) -> Stage:
        deadline = time.monotonic() + WAIT_S
        while set(self._topics) - set(await self.broker.list_topics()):
            self._check()
            if time.monotonic() > deadline:
                raise Untrue("the worker made no topics")
            await asyncio.sleep(0.1)
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        for task in self._readers:
            task.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        await self.client.__aexit__(*raised)


def play(example: Path, pipeline: str, story: Story) -> int:
    """Runs a story on a Kafka of its own, with the pipeline as a process beside it.

    Gives the exit status: 0 only if all was as told, 1 if not, 3 where no Kafka starts, 130 when it was interrupted. It ends what it
    started in any case.
    """
    print(f"\n {example.name.replace('_', ' ')}: everything below happens on this machine, now\n", flush=True)
    began = time.monotonic()
    try:
        with terminated_as_interrupted(), _copied(example) as folder, LocalBroker() as kafka:
            print(f" ·  Kafka at {kafka.bootstrap}, and a worker: millstream run {pipeline}", flush=True)
            with _worker(folder, pipeline, kafka.bootstrap) as check:
                asyncio.run(_played(folder, pipeline, kafka.bootstrap, story, check))
    except TimeoutError:
        print(f" ✗  what was asked for did not come within {WAIT_S} s\n", flush=True)
        return 1
    except Untrue as error:
        print(f" ✗  {error}\n", flush=True)
        return 1
    except LocalBrokerError as error:
        print(f" ✗  no Kafka: {error}\n", flush=True)
        return 3
    except KeyboardInterrupt:
        return 130
    print(f"\n All as it should be, in {time.monotonic() - began:.0f} s. Read {example.name}/{pipeline}\n", flush=True)
    return 0


async def _played(folder: Path, pipeline: str, kafka: str, story: Story, check: Callable[[], None]) -> None:
    app, _ = load(str(folder / pipeline))
    broker = KafkaBroker({"bootstrap.servers": kafka})
    await broker.start()
    try:
        async with Stage(app, broker, folder, check) as stage:
            await story(stage)
    finally:
        await broker.stop()


@contextmanager
def _copied(example: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="millstream-") as place:
        yield Path(shutil.copytree(example, Path(place) / example.name, ignore=shutil.ignore_patterns("__pycache__")))


@contextmanager
def _worker(folder: Path, pipeline: str, kafka: str) -> Iterator[Callable[[], None]]:
    """`millstream run`, asked to stop at the end. Gives what raises Untrue once it is gone, with the end of its log."""
    state, log = folder.parent / "state", folder.parent / "worker.log"
    command = [
        sys.executable,
        "-m",
        "millstream.ops.main",
        "run",
        pipeline,
        "--brokers",
        kafka,
        "--state-dir",
        str(state),
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)

    def check() -> None:
        if process.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
            raise Untrue(f"the worker ended with status {process.returncode}:\n{tail}")

    try:
        yield check
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@asynccontextmanager
async def in_memory(
    example: Path, pipeline: str, edits: Mapping[str, tuple[str, str]] | None = None
) -> AsyncIterator[Stage]:
    """The same pipeline in this process, over the broker that ships for tests. `edits`: by file, what is replaced by what before."""
    with _copied(example) as folder:
        for name, (before, after) in (edits or {}).items():
            file = folder / name
            file.write_text(file.read_text().replace(before, after))
        app, feeds = load(str(folder / pipeline))
        broker = MemoryBroker()
        await broker.start()
        bind_answers(app, broker, MemoryDatabase)
        worker = Worker(app, broker)
        running = asyncio.create_task(worker.run())

        def check() -> None:
            if running.done():
                raise Untrue(f"the worker ended: {running.exception()}")

        try:
            async with (
                feeding(feeds, lambda: broker, folder.parent, worker.stop),
                Stage(app, broker, folder, check) as stage,
            ):
                yield stage
        finally:
            worker.stop()
            await asyncio.gather(running, return_exceptions=True)
