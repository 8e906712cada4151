"""`millstream restore`: what `millstream backup` wrote, back into a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._options import Brokers, Set, SettingsFile, settings_of
from .backup import Url

if TYPE_CHECKING:
    from ...topics.broker import Broker

app = typer.Typer(name="restore", help="Bring an app's state and offsets back from a backup.")


@app.command()
def restore(
    name: Annotated[str, typer.Argument(metavar="APP", help="Its TARGET, or only its name.", show_default=False)],
    url: Url,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Delete the offsets, internal topics and local state that are there, first.")
    ] = False,
    state_dir: Annotated[Path | None, typer.Option(help="Folder of local state.", show_default=False)] = None,
    brokers: Brokers = None,
    file: SettingsFile = None,
    pairs: Set = None,
) -> None:
    """Make an app's changelogs and repartition topics anew from a backup, and commit its offsets.

    The topics the app reads must be there, with their offsets. Nothing is changed before every file has its checksum; no
    worker starts before all is done.
    """
    from ..backup.place import Place
    from ..backup.progress import Lines
    from ..backup.restore import perform_restore, plan_restore
    from ..client import with_broker
    from ..load import app_or_name

    settings = settings_of(file, pairs, brokers=brokers, state_dir=state_dir)
    applied = settings.applied_to(app_or_name(name)[1])
    place = Place(url)

    async def work(broker: Broker) -> None:
        plan = await plan_restore(broker, applied.name, place, applied.state_dir)
        for line in plan.lines():
            typer.echo(line)
        if dry_run:
            typer.echo("dry run: nothing was changed")
            return
        lines = Lines(lambda line: typer.echo(line, err=True))
        await perform_restore(broker, plan, lines, force=force, replication=applied.internal_replication)
        typer.echo("done: start the workers")

    with_broker(settings, work)
