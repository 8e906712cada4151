"""A small HTTP server for what a worker tells of itself: GET and HEAD of a few fixed paths, in the worker's own event loop.

A hundred lines of the standard library serve /metrics, /health and /ready, so that none of them needs an extra
(starlette and uvicorn, the extra `http`, are for the gateway). One request a connection, limits on everything, and it
listens on 127.0.0.1 unless told otherwise. It does not do: bodies, keep-alive, TLS, HTTP/2.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from .errors import SettingsError

REQUEST_BYTES_MAX: Final = 8 * 1024
REQUEST_TIMEOUT_S: Final = 5
CONNECTIONS_MAX: Final = 64

_log = logging.getLogger("millstream.http")


@dataclass(frozen=True, slots=True)
class Response:
    """What a path answers."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"


Route = Callable[[], Response]


class HttpServer:
    """`routes`: by path. `port` 0 takes a free one; `address` says which."""

    def __init__(self, routes: Mapping[str, Route], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._routes = dict(routes)
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self) -> None:
        """Raises SettingsError where the address cannot be listened on."""
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=REQUEST_BYTES_MAX)
        except OSError as error:
            raise SettingsError(
                f"http_port: cannot listen on {self._host}:{self._port} ({error.strerror or error}); "
                "choose another --http-port, or 0 for a free one"
            ) from error

    @property
    def address(self) -> str:
        if self._server is None:
            return f"{self._host}:{self._port}"
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                if self._open > CONNECTIONS_MAX:
                    writer.write(_encoded(_told(503, "too many connections"), body=True))
                else:
                    writer.write(await self._answer(reader))
                await writer.drain()
        except (TimeoutError, ConnectionError):
            _log.debug("a client of the HTTP port went away or was too slow")
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _version = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
        except (asyncio.IncompleteReadError, ValueError):
            return _encoded(_told(400, "that is no HTTP request"), body=True)
        except asyncio.LimitOverrunError:
            return _encoded(_told(431, f"a request has at most {REQUEST_BYTES_MAX} bytes"), body=True)
        if method not in {"GET", "HEAD"}:
            return _encoded(_told(405, "only GET and HEAD"), body=True)
        return _encoded(self._response(target.partition("?")[0]), body=method == "GET")

    def _response(self, path: str) -> Response:
        route = self._routes.get(path)
        if route is None:
            return _told(404, f"there are {', '.join(sorted(self._routes))}")
        try:
            return route()
        except Exception:  # noqa: BLE001 - whatever a page costs, the worker goes on
            _log.exception("the page %s could not be made", path)
            return _told(500, "see the worker's log")


def _told(status: int, text: str) -> Response:
    return Response(f"{text}\n".encode(), status, "text/plain; charset=utf-8")


def _encoded(response: Response, *, body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
        f"Content-Type: {response.content_type}\r\nContent-Length: {len(response.body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (response.body if body else b"")
