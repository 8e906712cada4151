"""A TCP proxy before a broker that resets a connection at the n-th request of a kind.

    client --frames--> proxy --frames--> broker          Every frame: int32 length, then of a request int16 api key,
           <--frames--       <--frames--                 int16 version, int32 correlation id, client id; of an answer
                                                         int32 correlation id (Kafka protocol guide, "Request Header")

Nothing but these headers is read, and nothing is rewritten: the broker is told to advertise the proxy's address.
`before` the broker has seen the request it never will; `after` the broker has carried it out and the answer is lost, which
leaves the client with an outcome it cannot know.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from millstream.ops.local_broker import LocalBroker

KINDS = {
    "InitProducerId": 22,
    "AddPartitionsToTxn": 24,
    "AddOffsetsToTxn": 25,
    "TxnOffsetCommit": 28,
    "EndTxn": 26,
    "Produce": 0,
    "OffsetFetch": 9,
}
"""Api keys of what a commit and a takeover are made of."""

CLIENT = b"millstream"
"""Only workers are disturbed, not the load and the judge."""

HOST = "127.0.0.1"
FRAME_BYTES_MAX = 64 << 20

When = Literal["before", "after"]


@dataclass(frozen=True)
class Trap:
    """Which request is to be cut off: the `nth` of the kind from now on."""

    kind: str
    nth: int
    when: When


class ResetProxy:
    """Runs an event loop of its own in a thread. `port` is known at once, `upstream` may be set later."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.upstream = 0
        self._trap: Trap | None = None
        self._seen = 0
        self.sprung = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def arm(self, trap: Trap) -> None:
        """`sprung` is set when it happens."""
        self.sprung.clear()
        self._seen, self._trap = 0, trap

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listener))
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(HOST, self.upstream)
        except OSError:  # the broker is away: so is the proxy
            writer.transport.abort()
            return
        connection = _Connection(self, writer, up_writer)
        for coroutine in (connection.requests(reader), connection.answers(up_reader)):
            self._keep(coroutine)

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def caught(self, api_key: int, client: bytes) -> When | None:
        """Whether this request is the one, and then when the connection is to be reset."""
        trap = self._trap
        if trap is None or KINDS[trap.kind] != api_key or client != CLIENT:
            return None
        self._seen += 1
        if self._seen < trap.nth:
            return None
        self._trap = None
        return trap.when


class _Connection:
    """One client's connection and the one to the broker behind it."""

    def __init__(self, proxy: ResetProxy, down: asyncio.StreamWriter, up: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._down, self._up = down, up
        self._fatal: int | None = None
        """Correlation id of the request whose answer is not delivered."""

    async def requests(self, reader: asyncio.StreamReader) -> None:
        with self._ending():
            while True:
                frame = await _frame(reader)
                api_key, _, correlation, length = struct.unpack_from(">hhih", frame)
                when = self._proxy.caught(api_key, frame[10 : 10 + max(length, 0)])
                if when == "before":
                    self._reset()
                    return
                if when == "after":
                    self._fatal = correlation
                await _send(self._up, frame)

    async def answers(self, reader: asyncio.StreamReader) -> None:
        with self._ending():
            while True:
                frame = await _frame(reader)
                if struct.unpack_from(">i", frame)[0] == self._fatal:
                    self._reset()
                    return
                await _send(self._down, frame)

    def _reset(self) -> None:
        self._down.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._proxy.sprung.set()

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Whichever side ends, both do."""
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                yield
        finally:
            self._down.transport.abort()
            self._up.transport.abort()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    if not 0 < length <= FRAME_BYTES_MAX:
        raise OSError(f"a frame of {length} bytes")
    return await reader.readexactly(length)


async def _send(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(struct.pack(">i", len(frame)) + frame)
    await writer.drain()


@contextmanager
def proxied_broker() -> Iterator[tuple[LocalBroker, ResetProxy]]:
    """A broker whose clients, wherever they begin, come through the proxy."""
    proxy = ResetProxy()
    try:
        advertised = {"advertised.listeners": f"PLAINTEXT://{HOST}:{proxy.port}"}
        with LocalBroker(properties=advertised) as broker:
            proxy.upstream = int(broker.bootstrap.rpartition(":")[2])
            yield broker, proxy
    finally:
        proxy.close()
