"""The server under the routes: uvicorn, in the event loop that is there, with limits of its own and without its signal handlers.

A request's head has at most 64 KiB, connections are bounded, one that is silent between requests is closed. It does not do TLS:
that is the business of a proxy before it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ...rag.parts import extra
from ..errors import SettingsError
from .door import Door
from .web import Web

HEAD_BYTES_MAX: Final = 64 * 1024
KEEP_ALIVE_S: Final = 15
CONNECTIONS_MAX: Final = 1_024
STOP_TIMEOUT_S: Final = 5
BACKLOG: Final = 512

_log = logging.getLogger("millstream.gateway")


class GatewayServer:
    """`address` is known from when it was started."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._socket: socket.socket | None = None
        self._server: Any = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        if self._socket is None:
            return f"{self._door.settings.host}:{self._door.settings.port}"
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def start(self) -> None:
        """Raises SettingsError where the address cannot be listened on, PartError without the extra `http`, and what the door raises."""
        uvicorn = extra("uvicorn", "http")
        self._socket = self._listening()
        try:
            await self._door.open()
        except BaseException:
            self._socket.close()
            await self._door.close()
            raise
        config = uvicorn.Config(
            Web(self._door).app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        )
        is_up = asyncio.Event()
        self._server = _quiet(uvicorn.Server, is_up)(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        await is_up.wait()
        _log.info("gateway: listening on http://%s", self.address)

    def _listening(self) -> socket.socket:
        host, port = self._door.settings.host, self._door.settings.port
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
            # An answer's head and body are two writes: without this the second waits 40 ms for an acknowledgement of the first. asyncio
            # does not do it for a socket made like this; connections have it from the one that listens.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listening
        except OSError as error:
            raise SettingsError(
                f"gateway_port: cannot listen on {host}:{port} ({error.strerror or error}); choose another, or 0 for a free one"
            ) from error

    async def stop(self) -> None:
        """Streams end, requests under way are answered (within 5 s), and then the door is closed."""
        self._door.closing.set()
        if self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait([self._serving])
        await self._door.close()
        if self._socket is not None:
            self._socket.close()


def _quiet(server: Any, is_up: asyncio.Event) -> Any:
    """A server that leaves signals to whoever runs the process, and says when it listens."""

    class Quiet(server):  # type: ignore[misc]
        async def startup(self, sockets: Any = None) -> None:
            try:
                await super().startup(sockets)
            finally:
                is_up.set()

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Quiet
