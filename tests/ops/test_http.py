"""The pages of a worker, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from millstream.ops.errors import SettingsError
from millstream.ops.health import routes_of
from millstream.ops.http import REQUEST_BYTES_MAX, HttpServer, Response
from millstream.ops.metrics import PrometheusInstrument
from millstream.topics.batch import MIN_TIME, Partition
from millstream.workers.statistics import (
    ShardStatistics,
    StandbyStatistics,
    TaskStatistics,
    WorkerState,
    WorkerStatistics,
)


class Still:
    """A worker that says what it is told to say."""

    def __init__(self, state: WorkerState) -> None:
        self.state: WorkerState = state

    @property
    def ready(self) -> bool:
        return self.statistics().ready

    def statistics(self) -> WorkerStatistics:
        shard = ShardStatistics(0, "running", (TaskStatistics("0_0", MIN_TIME, 0),), {Partition("clicks", 0): 4})
        return WorkerStatistics("shop", self.state, 2, (shard,), (StandbyStatistics(1, 7, 93),))


async def _ask(server: HttpServer, request: bytes) -> tuple[int, dict[str, str], bytes]:
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    await writer.drain()
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


async def _get(server: HttpServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    status, headers, body = await _ask(server, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert headers["Connection"] == "close"
    return status, body


@pytest.fixture
async def worker() -> Still:
    return Still("running")


@pytest.fixture
async def server(worker: Still) -> AsyncIterator[HttpServer]:
    instrument = PrometheusInstrument()
    instrument.count("records_in", 3, topic="clicks")
    server = HttpServer({**routes_of(worker, instrument), "/broken": _broken})
    await server.start()
    yield server
    await server.stop()


def _broken() -> Response:
    raise ZeroDivisionError


async def test_health_tells_the_statistics(server: HttpServer) -> None:
    status, body = await _get(server, "/health")
    task = {"name": "0_0", "watermark": None, "waiting_rows": 0}
    shard = {"number": 0, "phase": "running", "tasks": [task], "lag": {"clicks-0": 4}, "restoring": []}
    copy = {"shard": 1, "records_behind": 7, "position": 93}
    told = {"app": "shop", "state": "running", "generation": 2, "ready": True, "shards": [shard], "standbys": [copy]}
    assert (status, json.loads(body)) == (200, told)


async def test_a_worker_that_is_not_ready_is_alive_all_the_same(server: HttpServer, worker: Still) -> None:
    """An orchestrator must not restart what is restoring, and must not count on it yet."""
    worker.state = "rebalancing"
    assert ((await _get(server, "/health"))[0], (await _get(server, "/ready"))[0]) == (200, 503)
    worker.state = "running"
    assert (await _get(server, "/ready"))[0] == 200


async def test_metrics_are_prometheus_text(server: HttpServer) -> None:
    status, headers, body = await _ask(server, b"GET /metrics?x=1 HTTP/1.1\r\n\r\n")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b'millstream_records_in_total{topic="clicks"} 3.0\n' in body
    assert b'millstream_lag_records{topic="clicks"} 4.0\n' in body


async def test_head_has_no_body(server: HttpServer) -> None:
    assert await _get(server, "/health", "HEAD") == (200, b"")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nope HTTP/1.1\r\n\r\n", 404),
        (b"POST /health HTTP/1.1\r\n\r\n", 405),
        (b"GET /broken HTTP/1.1\r\n\r\n", 500),
        (b"hello\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 2 * REQUEST_BYTES_MAX + b"\r\n\r\n", 431),
        (b"\xff\xfe /x HTTP/1.1\r\n\r\n", 400),
    ],
)
async def test_bad_requests_get_an_answer_and_harm_nothing(
    server: HttpServer, request_bytes: bytes, status: int
) -> None:
    assert (await _ask(server, request_bytes))[0] == status
    assert (await _get(server, "/health"))[0] == 200


async def test_it_listens_on_this_machine_only(server: HttpServer) -> None:
    assert server.address.startswith("127.0.0.1:")


async def test_a_port_that_is_taken_is_said(server: HttpServer) -> None:
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port} .*choose another --http-port"):
        await HttpServer({}, port=port).start()
