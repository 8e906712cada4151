"""`millstream mcp --port`: the official client over HTTP, every tool called."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
from mcp.client import Client

from millstream.topics.memory import MemoryBroker
from tests.polling import until
from tests.rag.served import gateway, running


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


async def reached(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def program(*words: str) -> AsyncIterator[str]:
    """The address of a `millstream mcp`."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "millstream.ops.main", "mcp", *words, "--port", str(port)
    )
    try:
        await until(lambda: reached(port))
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        await process.wait()


async def called(model: Client, tool: str, **arguments: Any) -> Any:
    result = await model.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def test_every_tool_is_called_over_http() -> None:
    broker = MemoryBroker()
    async with (
        running(broker, "shop"),
        gateway(broker, "shop") as url,
        program("--url", url, "--writes") as address,
        Client(address) as model,
    ):
        tools = {tool.name for tool in (await model.list_tools()).tools}
        assert tools == {"retrieve", "answer", "list_documents", "statistics", "put_document", "delete_document"}
        text = "The lamp is made in Jena."
        put = await called(model, "put_document", id="lamp.md", text=text, metadata={"lang": "en"})
        assert (put["state"], put["chunks"]) == ("indexed", 1)

        async def is_found() -> bool:  # a status is there before the index of whoever answers has come so far
            return bool((await called(model, "retrieve", question="lamp"))["result"])

        await until(is_found)
        (found,) = (await called(model, "retrieve", question="lamp", filter="lang = 'en'"))["result"]
        assert (found["uri"], found["text"], found["metadata"]["lang"]) == ("lamp.md", text, "en")
        told = await called(model, "answer", question="Where is the lamp made?")
        assert (told["answer"], told["sources"][0]["uri"]) == (f"{text} [1]", "lamp.md")
        listed = await called(model, "list_documents", filter="lang = 'en'")
        assert ([one["uri"] for one in listed["documents"]], listed["next"]) == (["lamp.md"], None)
        assert (await called(model, "statistics"))["documents"] == 1
        assert await called(model, "delete_document", id="lamp.md") == {"id": "lamp.md", "deleted": True}
        assert (await called(model, "statistics"))["documents"] == 0


async def test_without_writes_no_document_is_put_and_an_error_is_told() -> None:
    """Nor by a page in a browser that has a name of its own for this machine (DNS rebinding)."""
    broker = MemoryBroker()
    async with running(broker, "shop"), gateway(broker, "shop") as url, program("--url", url) as address:
        async with Client(address) as model:
            assert (await model.call_tool("put_document", {"id": "a.md", "text": "A lamp."})).is_error
            wrong = await model.call_tool("retrieve", {"question": "lamp", "filter": "(("})
            assert (wrong.is_error, "filter" in str(wrong.content)) == (True, True)
        async with httpx.AsyncClient() as page:
            asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            headers = {"host": "evil.example", "accept": "application/json, text/event-stream"}
            assert (await page.post(address, json=asked, headers=headers)).status_code == 421
