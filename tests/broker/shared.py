"""The Kafka a test run uses: found or started once, at the first test that asks, whatever the number of workers.

Order: `MILLSTREAM_TEST_BROKERS`, else a container where a Docker engine answers (`MILLSTREAM_TEST_CONTAINER`: redpanda,
kafka or none), else `LocalBroker`.
Under pytest-xdist the controller owns the broker. Workers ask it over a Unix socket, so that nothing starts unless a
test wants it, nothing starts twice, and nothing ends while another worker still uses it.
"""

from __future__ import annotations

import os
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from millstream.ops.local_broker import LocalBroker

REDPANDA = "redpandadata/redpanda:v24.3.1"
KAFKA = "confluentinc/cp-kafka:7.9.0"
ENGINE_TIMEOUT_S = 2
CONTAINER_START_TIMEOUT_S = 120
ASK_TIMEOUT_S = 180


@dataclass(frozen=True)
class Running:
    """A broker that answers: its address, what it is, and how to end it."""

    bootstrap: str
    kind: str
    stop: Callable[[], None]


def start_broker(environ: Mapping[str, str]) -> Running:
    """The broker for this environment, by the order above."""
    if given := environ.get("MILLSTREAM_TEST_BROKERS"):
        return Running(given, "MILLSTREAM_TEST_BROKERS", lambda: None)
    container = environ.get("MILLSTREAM_TEST_CONTAINER", "redpanda")
    if container != "none" and engine_answers():
        return start_container(container)
    broker = LocalBroker().start()
    return Running(broker.bootstrap, "LocalBroker", broker.stop)


def engine_answers() -> bool:
    """Whether a Docker engine answers where DOCKER_HOST or the usual socket points."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=ENGINE_TIMEOUT_S)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except (DockerException, OSError):
        return False


def start_container(kind: str) -> Running:
    """A container of `redpanda` or `kafka`, by testcontainers."""
    from testcontainers.community.kafka import KafkaContainer, RedpandaContainer

    container = RedpandaContainer(REDPANDA) if kind == "redpanda" else KafkaContainer(KAFKA).with_kraft()
    container.start(timeout=CONTAINER_START_TIMEOUT_S)
    return Running(container.get_bootstrap_server(), f"testcontainers, {container.image}", container.stop)


class Server(socketserver.ThreadingUnixStreamServer):
    """More may ask at once than the standard library lets wait: a Unix socket refuses instead of holding them up."""

    request_queue_size = 256
    daemon_threads = True


class SharedBroker:
    """Starts the broker at the first request; lives in the only pytest process or in the xdist controller."""

    def __init__(self, start: Callable[[], Running]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._server: Server | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.took_s = 0.0

    def bootstrap(self) -> str:
        """The address; starts the broker where nobody has yet."""
        with self._lock:
            if self._running is None:
                began = time.monotonic()
                self._running = self._start()
                self.took_s = time.monotonic() - began
            return self._running.bootstrap

    def serve(self) -> str:
        """Begins to answer workers; returns the path of the socket."""
        if self._server is None:
            self._folder = tempfile.TemporaryDirectory(prefix="millstream-tests-")
            path = str(Path(self._folder.name, "broker.sock"))
            self._server = Server(path, self._handler())
            threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return str(self._server.server_address)

    def _handler(self) -> type[socketserver.BaseRequestHandler]:
        shared = self

        class Answer(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    text = f"ok {shared.bootstrap()}"
                except Exception as error:  # noqa: BLE001  told to the worker, which raises it where the test sees it
                    text = f"no {type(error).__name__}: {error}"
                self.request.sendall(text.encode())

        return Answer

    def summary(self) -> str | None:
        """The line for the end of the run, or None where no test asked."""
        if self._running is None:
            return None
        return f"kafka: {self._running.kind} at {self._running.bootstrap}, started in {self.took_s:.1f} s"

    def close(self) -> None:
        """Ends the broker if it was started here."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        if self._folder is not None:
            self._folder.cleanup()
        if self._running is not None:
            self._running.stop()
            self._running = None


def ask(path: str) -> str:
    """From a worker: the address of the controller's broker."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ASK_TIMEOUT_S)
        connection.connect(path)
        with connection.makefile("rb") as answers:
            verdict, _, rest = answers.read().decode().partition(" ")
    if verdict != "ok":
        raise RuntimeError(f"the test run's broker did not start: {rest}")
    return rest


def default_start() -> Running:
    """The broker for the environment of this process."""
    return start_broker(os.environ)
