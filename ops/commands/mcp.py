"""`millstream mcp`: a document pipeline as tools of a model."""

from __future__ import annotations

from typing import Annotated

import typer

from ._options import Brokers, Set, SettingsFile, settings_of

app = typer.Typer(name="mcp", help="Give a document pipeline to a model as tools (Model Context Protocol).")


@app.command()
def mcp(
    name: Annotated[
        str | None, typer.Argument(metavar="APP", help="The pipeline's app, over Kafka.", show_default=False)
    ] = None,
    *,
    url: Annotated[
        str | None,
        typer.Option("--url", help="Of its gateway, instead; its token from MILLSTREAM_TOKEN.", show_default=False),
    ] = None,
    brokers: Brokers = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=1, max=65535, help="Serve HTTP on 127.0.0.1, at /mcp, instead of stdio.", show_default=False
        ),
    ] = None,
    writes: Annotated[bool, typer.Option("--writes", help="Also the tools put_document and delete_document.")] = False,
    file: SettingsFile = None,
    pairs: Set = None,
) -> None:
    """Give a document pipeline to a model as tools, over stdio: retrieve, answer, list_documents, statistics.

    An agent starts it: {"command": "millstream", "args": ["mcp", "help"]}. With --writes a model may change the documents; one that
    reads what others wrote can be talked into it.
    """
    import asyncio
    from contextlib import AsyncExitStack

    from ...rag.client import AsyncClient
    from ...rag.integrations.mcp import server_of
    from ..client import connected
    from ..errors import InputError
    from ..logs import configure_logs
    from ..run import kafka_of

    settings = settings_of(file, pairs, brokers=brokers)
    configure_logs(settings.log_format, "warning", secrets=settings.secrets())
    if (name is None) == (url is None):
        raise InputError("give the name of the pipeline's app, or --url of its gateway, and not both")

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            broker = None if url else await stack.enter_async_context(connected(kafka_of(settings)))
            client = await stack.enter_async_context(AsyncClient(name, url=url, broker=broker))
            server = server_of(client, writes=writes)
            if port is None:
                await server.run_stdio_async()
            else:
                await server.run_streamable_http_async(host="127.0.0.1", port=port)

    asyncio.run(serve())
