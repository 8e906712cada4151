"""`millstream gateway`: the HTTP door of a document pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._options import Brokers, Set, SettingsFile, settings_of

app = typer.Typer(name="gateway", help="Serve a document pipeline over HTTP, until Ctrl-C.")


@app.command()
def gateway(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET|APP", help="The pipeline's TARGET (best), or its app's name.", show_default=False
        ),
    ],
    *,
    brokers: Brokers = None,
    host: Annotated[str | None, typer.Option(help="Default 127.0.0.1.", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(help="Default 8080; 0: a free one.", show_default=False)] = None,
    index: Annotated[
        bool | None,
        typer.Option("--index/--no-index", help="Look chunks up here, or have workers do it.", show_default=False),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder the index is kept in; one process each.", show_default=False)
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="console or json.", show_default=False)] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default=False)] = None,
    file: SettingsFile = None,
    pairs: Set = None,
) -> None:
    """Serve a document pipeline over HTTP, until Ctrl-C. Its workers run elsewhere: millstream run.

    Tokens of those who may ask: the variable MILLSTREAM_GATEWAY_TOKENS. With the pipeline's TARGET it looks chunks up in an index of
    its own; by the app's name alone every question goes to the workers, and topics must have their usual names.
    """
    import asyncio

    from ..gateway.process import run_gateway
    from ..load import gateway_options
    from ..logs import configure_logs

    settings = settings_of(
        file,
        pairs,
        gateway_options(target),
        brokers=brokers,
        gateway_host=host,
        gateway_port=port,
        gateway_index=index,
        state_dir=state_dir,
        log_format=log_format,
        log_level=log_level,
    )
    configure_logs(settings.log_format, settings.log_level, secrets=settings.secrets())
    asyncio.run(run_gateway(target, settings))
