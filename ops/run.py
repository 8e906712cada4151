"""Runs an app as a worker of its consumer group: settings, logs, broker, HTTP port, signals, and the worker itself."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from ..state.directory import StateDirectory
from ..topics.broker import Broker
from ..topics.errors import BrokerUnavailableError
from ..workers.app import App
from ..workers.graph import Work
from ..workers.settings import AppSettings
from ..workers.worker import Worker
from .allocator import keep_freed_memory
from .feed import FolderFeed, feeding
from .health import routes_of
from .http import HttpServer
from .identity import as_static_member
from .logs import configure_logs
from .metrics import PrometheusInstrument
from .settings import RunSettings

RETRY_S: Final = 0.5
"""Between two tries to reach a broker at the start."""

_log = logging.getLogger("millstream.run")


def run(app: App, **settings: object) -> None:
    """Runs the app until it is stopped by Ctrl-C or SIGTERM (or, with `until_end=True`, until its input is worked off).

    `settings`: fields of `RunSettings`; the environment (`MILLSTREAM_*`) goes before them. Raises what cannot be gone on
    from: SettingsError, ConfigurationError, PlanError, BrokerUnavailableError after `connect_timeout_ms`.
    """
    chosen = RunSettings.of(code=settings)
    configure_logs(chosen.log_format, chosen.log_level, secrets=chosen.secrets())
    asyncio.run(run_app(app, chosen))


async def run_app(
    app: App, settings: RunSettings, broker: Broker | None = None, *, feeds: Sequence[FolderFeed] = ()
) -> None:
    """As `run`, in an event loop that is there.

    `broker`: one that was not started yet; default: Kafka as in the settings, to which a document pipeline's index is bound
    too. `feeds`: folders watched meanwhile.
    """
    keep_freed_memory()
    instrument, chosen = PrometheusInstrument(), as_static_member(settings.applied_to(app.settings))
    databases = databases_of(chosen)
    if broker is None:
        try:
            await wait_for(kafka_of(settings), settings.connect_timeout_ms)
            broker = kafka_of(settings)
            bind_index(app, broker, chosen.state_dir / app.name / "index")
        except BaseException:
            databases.close()
            raise
    worker = Worker(app, broker, settings=chosen, instrument=instrument, databases=databases)
    async with AsyncExitStack() as stack:
        stack.callback(databases.close)  # the worker closes it too, unless it never came to run
        if settings.http_port is not None:
            server = HttpServer(routes_of(worker, instrument), host=settings.http_host, port=settings.http_port)
            await server.start()
            stack.push_async_callback(server.stop)
            _log.info("listening on http://%s: /metrics, /health, /ready", server.address)
        _log.info("%s: worker starts, %s, on %s", app.name, chosen.guarantee.replace("_", " "), settings.brokers)
        if settings.gateway_port is not None:
            await stack.enter_async_context(gateway_beside(app, settings, worker.stop))
        memory = chosen.state_dir / app.name / "sources"
        await stack.enter_async_context(feeding(feeds, lambda: kafka_of(settings), memory, worker.stop))
        with stopped_by_signals(worker):
            await worker.run(until_end=settings.until_end)
        _log.info("%s: worker stopped", app.name)


def gateway_beside(app: App, settings: RunSettings, failed: Callable[[], None]) -> AbstractAsyncContextManager[None]:
    """Raises SettingsError, InputError."""
    from .gateway.run import answer_of, beside
    from .gateway.settings import GatewaySettings

    chosen = GatewaySettings.of(settings)
    return beside(chosen, answer_of(app), lambda: kafka_of(settings), failed, index=settings.gateway_index)


def bind_index(app: App, broker: Broker, folder: Path) -> None:
    """Where the app has to do with documents: its index reads from this broker and is kept in the folder, paid calls are told there."""
    if not any(
        isinstance(node, Work) and node.step.kind in {"answer", "search", "ingest", "reembed"} for node in app.graph
    ):
        return
    from ..rag.pipeline import bind_answers
    from ..state.settings import StateSettings
    from ..state.stores.rocksdb import RocksDatabase, RocksShared

    folder.mkdir(parents=True, exist_ok=True)
    shared = RocksShared(StateSettings())

    def open_shard(shard: int) -> RocksDatabase:
        (folder / f"shard-{shard}").mkdir(exist_ok=True)
        return RocksDatabase(folder / f"shard-{shard}" / "database", shared)

    bind_answers(app, broker, lambda: RocksDatabase(folder / "database", shared), folder, open_shard)


def databases_of(settings: AppSettings) -> StateDirectory:
    """RocksDB in `<state_dir>/<app>`, locked for this process. Raises LockedError, FormatError, DiskError."""
    from ..state.settings import StateSettings
    from ..state.stores.rocksdb import RocksDatabase, RocksShared

    shared = RocksShared(StateSettings())
    return StateDirectory(
        settings.state_dir / settings.name, settings.name, lambda folder: RocksDatabase(folder, shared)
    )


def kafka_of(settings: RunSettings) -> Broker:
    """Kafka, not connected yet. Raises ConfigurationError."""
    from ..topics.kafka.broker import KafkaBroker

    return KafkaBroker(settings.kafka_settings())


async def wait_for(broker: Broker, timeout_ms: int) -> None:
    """Waits until the broker answers; says once that it waits. Raises BrokerUnavailableError when the time is over."""
    deadline, told = time.monotonic() + timeout_ms / 1_000, False
    while True:
        try:
            await broker.start()
        except BrokerUnavailableError as error:
            if time.monotonic() + RETRY_S > deadline:
                raise
            if not told:
                _log.warning("%s; trying again for %d s", error, timeout_ms // 1_000)
                told = True
            await asyncio.sleep(RETRY_S)
        else:
            return await broker.stop()


@contextmanager
def stopped_by_signals(worker: Worker) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks the worker to stop in good order, the second ends the process at once.

    SIGTERM comes from what will start it again, so its place in the group is kept for it; Ctrl-C comes from somebody who
    ends it, so the others take over at once.
    """
    loop, asked = asyncio.get_running_loop(), False

    def ask(number: int) -> None:
        nonlocal asked
        if asked:
            sys.stderr.write("stopped at once; what was not committed will be done again\n")
            sys.stderr.flush()
            os._exit(128 + number)  # whatever hangs, hangs in a `finally` or in a thread
        asked = True
        _log.info("%s: stopping after a last commit; once more stops at once", signal.Signals(number).name)
        worker.stop(leave=number == signal.SIGINT)

    def from_interpreter(number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(ask, number)

    handled = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, from_interpreter) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
