"""`millstream run`: a worker of the app's consumer group."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._options import Brokers, Set, SettingsFile, Target, settings_of

app = typer.Typer(name="run", help="Run an app as a worker of its consumer group, until Ctrl-C.")


@app.command()
def run(
    target: Target,
    *,
    brokers: Brokers = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder of local state; one process each.", show_default=False)
    ] = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop when what is in the topics now is worked off.")
    ] = False,
    http_port: Annotated[
        int | None, typer.Option(help="Serve /metrics, /health and /ready here; 0: a free port.", show_default=False)
    ] = None,
    http_host: Annotated[str | None, typer.Option(help="Default 127.0.0.1.", show_default=False)] = None,
    gateway_port: Annotated[
        int | None,
        typer.Option(help="Serve its documents and questions over HTTP here; 0: a free port.", show_default=False),
    ] = None,
    instance_id: Annotated[
        str | None,
        typer.Option(help="Name in the group, kept over restarts. Default: host and state folder.", show_default=False),
    ] = None,
    standby_replicas: Annotated[
        int | None, typer.Option(help="Warm copies of each shard's state on other workers.", show_default=False)
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="console or json.", show_default=False)] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default=False)] = None,
    file: SettingsFile = None,
    pairs: Set = None,
) -> None:
    """Run an app as a worker of its consumer group, until Ctrl-C. Start it several times to share the work.

    A first Ctrl-C (or SIGTERM) commits and stops; a second one stops at once.
    """
    import asyncio

    from ..load import gateway_options, load
    from ..logs import configure_logs
    from ..run import run_app

    settings = settings_of(
        file,
        pairs,
        gateway_options(target),
        brokers=brokers,
        state_dir=state_dir,
        until_end=until_end or None,
        http_port=http_port,
        http_host=http_host,
        gateway_port=gateway_port,
        instance_id=instance_id,
        standby_replicas=standby_replicas,
        log_format=log_format,
        log_level=log_level,
    )
    configure_logs(settings.log_format, settings.log_level, secrets=settings.secrets())
    loaded, feeds = load(target)
    asyncio.run(run_app(loaded, settings, feeds=feeds))
