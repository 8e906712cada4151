"""A fake Docker engine: enough of the Engine API on a Unix socket for testcontainers to start Kafka and Redpanda.

Each "container" is a `LocalBroker` on the port the engine maps; the start script that testcontainers copies in must
advertise that port. It shows that our branch for containers works, not that an image does.
"""

from __future__ import annotations

import io
import json
import re
import socketserver
import struct
import tarfile
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from millstream.ops.local_broker import LocalBroker
from millstream.ops.local_broker.cluster import free_ports

STARTED = b"Started Kafka API server\nKafka Server started\n"
ADVERTISED = re.compile(r"(?:OUTSIDE|PLAINTEXT)://[^:,\s]+:(\d+)")


@dataclass
class Container:
    """What the engine knows of one container."""

    config: dict[str, Any]
    ports: dict[str, int]
    state: str = "created"
    log: bytes = b""
    broker: LocalBroker | None = None

    def start_broker(self, script: str) -> None:
        """Starts the Kafka that the script would start, on the mapped port it advertises."""
        told = {int(port) for port in ADVERTISED.findall(script)}
        (port,) = told & set(self.ports.values())
        self.broker = LocalBroker(port=port).start()
        self.log = STARTED

    def end(self) -> None:
        """Ends its broker, if any."""
        if self.broker is not None:
            self.broker.stop()
        self.broker, self.state = None, "exited"


@dataclass
class FakeEngine:
    """Serves while it is entered; `url` is for DOCKER_HOST."""

    folder: Path
    containers: dict[str, Container] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The value of DOCKER_HOST."""
        return f"unix://{self.folder / 'docker.sock'}"

    def __enter__(self) -> Self:
        engine: FakeEngine = self

        class Bound(Handler):
            fake = engine

        self._server = socketserver.ThreadingUnixStreamServer(str(self.folder / "docker.sock"), Bound)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        for container in self.containers.values():
            container.end()

    def create(self, config: dict[str, Any]) -> str:
        """A container that is not started yet; its id."""
        identity = uuid.uuid4().hex * 2
        exposed = list(config.get("ExposedPorts", {}))
        self.containers[identity] = Container(config, dict(zip(exposed, free_ports(len(exposed)), strict=True)))
        self.images.append(config["Image"])
        return identity

    def describe(self, identity: str) -> dict[str, Any]:
        """As `docker inspect` tells it."""
        container = self.containers[identity]
        mapped = {port: [{"HostIp": "0.0.0.0", "HostPort": str(host)}] for port, host in container.ports.items()}
        return {
            "Id": identity,
            "Name": f"/{identity[:8]}",
            "Image": "sha256:" + "0" * 64,
            "Config": container.config,
            "HostConfig": {"NetworkMode": "bridge"},
            "State": {"Status": container.state, "Running": container.state == "running", "ExitCode": 0},
            "NetworkSettings": {"Ports": mapped, "Networks": {"bridge": {"Gateway": "127.0.0.1"}}},
        }

    def list(self, identities: list[str]) -> list[dict[str, Any]]:
        """As `docker ps` tells it."""
        return [
            {
                "Id": identity,
                "Names": [f"/{identity[:8]}"],
                "State": self.containers[identity].state,
                "Ports": [
                    {"PrivatePort": int(port.split("/")[0]), "PublicPort": host, "Type": "tcp"}
                    for port, host in self.containers[identity].ports.items()
                ],
                "HostConfig": {"NetworkMode": "bridge"},
                "NetworkSettings": {"Networks": {"bridge": {"Gateway": "127.0.0.1", "IPAddress": "127.0.0.1"}}},
            }
            for identity in identities
            if identity in self.containers
        ]


class Handler(BaseHTTPRequestHandler):
    """The routes of the engine that testcontainers uses; anything else is a 404 that names it."""

    protocol_version = "HTTP/1.1"
    fake: FakeEngine

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        path = self._path()
        fixed = {
            "/version": {"Version": "28.0.0", "ApiVersion": "1.44", "MinAPIVersion": "1.24", "Os": "linux"},
            "/info": {"ID": "fake", "OperatingSystem": "fake", "ServerVersion": "28.0.0", "IndexServerAddress": ""},
        }
        if path == "/_ping":
            self._send(200, b"OK", "text/plain")
        elif path in fixed:
            self._json(200, fixed[path])
        elif path.startswith("/images/"):
            self._json(200, {"Id": "sha256:" + "0" * 64, "RepoTags": ["fake"], "Config": {}})
        elif path == "/containers/json":
            asked = json.loads(parse_qs(urlsplit(self.path).query).get("filters", ["{}"])[0])
            self._json(200, self.fake.list(asked.get("id", list(self.fake.containers))))
        else:
            self._on_container(
                {"/json": lambda identity, _: self._json(200, self.fake.describe(identity)), "/logs": self._logs}
            )

    def do_HEAD(self) -> None:
        self._send(200, b"", "text/plain")

    def do_POST(self) -> None:
        body = self._body()
        if self._path() == "/containers/create":
            self._json(201, {"Id": self.fake.create(json.loads(body)), "Warnings": []})
        else:
            self._on_container({"/start": self._start, "/stop": self._end, "/kill": self._end})

    def do_PUT(self) -> None:
        body = self._body()
        self._on_container({"/archive": lambda _, container: self._archive(container, body)})

    def do_DELETE(self) -> None:
        self._on_container({"": self._remove})

    def _on_container(self, routes: dict[str, Callable[[str, Container], None]]) -> None:
        found = re.fullmatch(r"/containers/([0-9a-f]+)(/\w+)?", self._path())
        route = routes.get(found[2] or "") if found else None
        if found is None or route is None or found[1] not in self.fake.containers:
            self._json(404, {"message": f"the fake engine knows no {self.command} {self._path()}"})
        else:
            route(found[1], self.fake.containers[found[1]])

    def _start(self, _: str, container: Container) -> None:
        container.state = "running"
        self._send(204, b"", "text/plain")

    def _end(self, _: str, container: Container) -> None:
        container.end()
        self._send(204, b"", "text/plain")

    def _remove(self, identity: str, container: Container) -> None:
        container.end()
        del self.fake.containers[identity]
        self._send(204, b"", "text/plain")

    def _archive(self, container: Container, body: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            script = archive.extractfile(archive.getmembers()[0])
            text = script.read().decode() if script else ""
        threading.Thread(target=container.start_broker, args=(text,), daemon=True).start()
        self._send(200, b"", "text/plain")

    def _logs(self, _: str, container: Container) -> None:
        frame = struct.pack(">BxxxL", 1, len(container.log)) + container.log if container.log else b""
        self._send(200, frame, "application/vnd.docker.multiplexed-stream")

    def _path(self) -> str:
        return re.sub(r"^/v[\d.]+", "", urlsplit(self.path).path)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _json(self, code: int, body: object) -> None:
        self._send(code, json.dumps(body).encode(), "application/json")

    def _send(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
