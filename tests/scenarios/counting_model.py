"""A language model on 127.0.0.1 with OpenAI's shape that counts who asked it: what is counted has to be paid for.

A question names its case (`Case-17`). Every seventh case waits until it is let go, and what was answered after it waits for it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Counted:
    """`asked` and `answered`: how often, by case."""

    url: str = ""
    asked: Counter[int] = field(default_factory=Counter)
    answered: Counter[int] = field(default_factory=Counter)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is clear, every seventh case waits."""


@asynccontextmanager
async def counting_model() -> AsyncIterator[Counted]:
    counted = Counted()
    open_now: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
                await _answer(writer, (await reader.readexactly(length)).decode(), counted)
        open_now.discard(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    counted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield counted
    finally:
        server.close()
        for writer in list(open_now):
            writer.transport.abort()


async def _answer(writer: asyncio.StreamWriter, request: str, counted: Counted) -> None:
    case = int(re.findall(r"Case-(\d+)", request)[-1])
    counted.asked[case] += 1
    if case % 7 == 0:
        await counted.go.wait()
    message = {"role": "assistant", "content": f"Town{case} [1]"}
    usage = {"prompt_tokens": 100, "completion_tokens": 5}
    body = json.dumps({"model": "counted", "choices": [{"message": message}], "usage": usage}).encode()
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    await writer.drain()
    counted.answered[case] += 1
