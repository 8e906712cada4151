"""A small HTTP server on 127.0.0.1 that answers as it is told, one scripted reply a request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any


@dataclass
class Reply:
    """`hang`: never answer. `cut`: close the connection in the middle of the body. `cuts`: send it in pieces that end there."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    cut: bool = False
    cuts: tuple[int, ...] = ()


@dataclass
class Server:
    url: str
    replies: list[Reply]
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Of each request its path, headers and body."""


ReplyTo = Callable[[dict[str, Any]], Awaitable[Reply]]
"""What a request, with its path, headers and body, is answered with."""


@asynccontextmanager
async def serving(*replies: Reply) -> AsyncIterator[Server]:
    """One after the other, whatever is asked."""
    left = list(replies)

    async def next_reply(_: dict[str, Any]) -> Reply:
        return left.pop(0)

    async with answering(next_reply) as server:
        server.replies = left
        yield server


@asynccontextmanager
async def answering(reply_to: ReplyTo) -> AsyncIterator[Server]:
    state = Server("", [])
    open_now: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                request = {"path": lines[0].split()[1], "headers": headers, "body": json.loads(body)}
                state.requests.append(request)
                await _answer(writer, await reply_to(request))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            open_now.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield state
    finally:
        server.close()
        for writer in list(open_now):
            writer.transport.abort()


async def _answer(writer: asyncio.StreamWriter, reply: Reply) -> None:
    if reply.hang:
        return
    body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
    extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
    if reply.cuts:
        writer.write(f"HTTP/1.1 {reply.status} x\r\ntransfer-encoding: chunked\r\n{extra}\r\n".encode())
        for start, stop in pairwise([0, *reply.cuts, len(body)]):
            piece = body[start:stop]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b"")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return
    writer.write(f"HTTP/1.1 {reply.status} x\r\ncontent-length: {len(body)}\r\n{extra}\r\n".encode())
    writer.write(body[: len(body) // 2] if reply.cut else body)
    await writer.drain()
    if reply.cut:
        writer.close()
