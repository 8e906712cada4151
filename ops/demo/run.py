"""Runs the demo: its folder, Kafka, the workers and the screen around the director, and all of them gone afterwards.

Kafka is started before there is an event loop, so that Ctrl-C ends a start that is under way, too.
"""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from ...rag.errors import PartError
from ...rag.weights import PACKAGED, packaged_model
from ...topics.broker import Broker
from ...topics.errors import ConfigurationError
from ..local_broker import LocalBroker
from ..local_broker.cluster import free_ports
from ..local_broker.jars import kafka_jars
from ..run import kafka_of, wait_for
from ..settings import RunSettings
from . import story
from .director import Director
from .errors import Differs
from .figures import span
from .place import Place, place_of
from .processes import Workers
from .screen import Screen
from .settings import DemoSettings
from .stage import Stage
from .worker import WorkerOrder

GROUP_POLL_S: Final = 0.5
_NEEDED: Final = ("onnxruntime", "tokenizers")
"""Modules of the embedder `local`."""


def run_demo(settings: DemoSettings, screen: Screen) -> bool:
    """Whether everything came out right. How to log in to the Kafka of `settings.brokers`, the environment says."""
    own = settings.brokers is None
    if own:
        kafka_jars()  # the first time they are downloaded, with a bar of their own
    first = story.the_story(own_kafka=own, workers=settings.workers, partitions=settings.partitions)
    stage = Stage(first, screen.tell)
    with place_of(settings) as place, terminated_as_interrupted(), screen.showing(stage), ExitStack() as stack:
        try:
            stage.begin(story.KAFKA)
            stage.note = "a real broker of one node, KRaft, listening on this machine only"
            bootstrap = settings.brokers or stack.enter_context(_own_kafka(place)).bootstrap
            kafka = RunSettings.of(flags={"brokers": bootstrap}, environment={} if own else None)
            asyncio.run(_told(settings, kafka, place, stage))
        except Differs as error:
            stage.failed(str(error).partition("\n")[0])
            stage.ending = tuple(("", line, "") for line in str(error).splitlines())
        else:
            stage.ending = _ending(settings)
        screen.end(stage)
    return stage.story.is_told


def _own_kafka(place: Place) -> LocalBroker:
    return LocalBroker(place.broker)


async def _told(settings: DemoSettings, kafka: RunSettings, place: Place, stage: Stage) -> None:
    await wait_for(kafka_of(kafka), kafka.connect_timeout_ms)
    broker = kafka_of(kafka)
    await broker.start()
    try:
        stage.done(f"{span(stage.elapsed_s * 1000)}, {kafka.brokers}")
        await _with_workers(settings, kafka, place, stage, broker)
    finally:
        await broker.stop()


async def _with_workers(settings: DemoSettings, kafka: RunSettings, place: Place, stage: Stage, broker: Broker) -> None:
    numbers = range(1, settings.workers + 1)
    ports = dict(zip(numbers, free_ports(settings.workers), strict=True))
    embedder = settings.embedder or embedder_here()

    def command(number: int) -> list[str]:
        order = WorkerOrder(
            example=str(settings.example / "pipeline.py"),
            app=settings.app,
            embedder=embedder,
            brokers=kafka.brokers,
            reads_environment=settings.brokers is not None,
            state_dir=str(place.state(number)),
            http_port=ports[number],
            session_timeout_ms=settings.session_timeout_ms,
        )
        return order.command()

    try:
        with Workers(command, place.log, ports) as workers:
            await Director(settings, stage, place, broker, workers=workers, embedder=embedder).run()
    finally:
        if settings.brokers is not None and not settings.keep:
            await _removed(broker, settings)


async def _removed(broker: Broker, settings: DemoSettings) -> None:
    """The topics and the group, from a Kafka that is not ours."""
    app = settings.app
    topics = [name for name in await broker.list_topics() if name.startswith((f"{app}.", f"{app}-"))]
    await broker.delete_topics(topics)
    deadline = time.monotonic() + 2 * settings.session_timeout_ms / 1000
    while True:
        try:
            return await broker.delete_group(app)
        except ConfigurationError:  # a worker that was killed is a member until its session times out
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(GROUP_POLL_S)


def embedder_here() -> str:
    """`local` where the model and its weights are installed, else `hashing`."""
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        return "hashing"
    try:
        packaged_model(next(iter(PACKAGED)))
    except PartError:
        return "hashing"
    return "local"


def _ending(settings: DemoSettings) -> tuple[tuple[str, str, str], ...]:
    example = settings.example / "pipeline.py"
    lines = len(example.read_text(encoding="utf-8").splitlines())
    shown = example.relative_to(Path.cwd()) if example.is_relative_to(Path.cwd()) else example
    kept = str(settings.folder)
    if not settings.keep:
        return (
            ("read", str(shown), f"the {lines} lines that did this"),
            ("look", "millstream demo --keep", f"leaves {kept}: documents, logs, Kafka's data"),
            ("", "Kafka and the workers are stopped, nothing is left behind", ""),
        )
    read = f"millstream consume {settings.topic('sales')} --from-beginning --until-end"
    look = (("look", f"millstream broker start --dir {kept}/broker", f"then {read}"),) if not settings.brokers else ()
    return (("read", str(shown), f"the {lines} lines that did this"), *look, ("kept", kept, "remove it when you like"))


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, and Ctrl-C does so in a shell's background, too: everything started is ended."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
