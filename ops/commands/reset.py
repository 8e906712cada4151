"""`millstream reset`: begin an app anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._options import Brokers, Set, SettingsFile, settings_of

if TYPE_CHECKING:
    from ...topics.broker import Broker

app = typer.Typer(name="reset", help="Forget an app's offsets, changelogs and local state, to begin anew.")


@app.command()
def reset(
    name: Annotated[
        str, typer.Argument(metavar="APP", help="Its TARGET (best), or only its name.", show_default=False)
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    state_dir: Annotated[Path | None, typer.Option(help="Folder of local state.", show_default=False)] = None,
    brokers: Brokers = None,
    file: SettingsFile = None,
    pairs: Set = None,
) -> None:
    """Forget an app's offsets, changelogs, repartition topics and local state, to begin anew. Stop its workers first.

    Output topics stay as they are, so an app that runs again writes its results again. State on other machines must be
    deleted there; a worker that finds it after a reset would be wrong.
    """
    from ...workers.settings import AppSettings
    from ..client import with_broker
    from ..load import is_target, load_app
    from ..reset import internal_names, perform_reset, plan_reset

    settings = settings_of(file, pairs, brokers=brokers, state_dir=state_dir)
    loaded = load_app(name) if is_target(name) else None
    base = loaded.settings if loaded else AppSettings.of(name)
    known = internal_names(loaded) if loaded else None

    async def work(broker: Broker) -> None:
        plan = await plan_reset(broker, base.name, settings.applied_to(base).state_dir, known)
        for line in plan.lines():
            typer.echo(line)
        if plan.empty:
            typer.echo("nothing to do")
        elif dry_run:
            typer.echo("dry run: nothing was changed")
        elif yes or typer.confirm(f"forget all this of {base.name}?"):
            await perform_reset(broker, plan)
            typer.echo("done")
        else:
            raise typer.Abort

    with_broker(settings, work)
