"""`millstream reset`: begin an app anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._options import Brokers, Set, SettingsFile, settings_of

if TYPE_CHECKING:
    from ...topics.broker import Broker

app = typer.Typer(name="reset", help="Forget an app's offsets, changelogs and local state, to begin anew.")

To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="earliest|latest|TIME",
        help="Where it begins afterwards; TIME as 2026-11-25T08:00:00+01:00. Default: its start_from.",
        show_default=False,
    ),
]


@app.command()
def reset(
    name: Annotated[
        str, typer.Argument(metavar="APP", help="Its TARGET (best), or only its name.", show_default=False)
    ],
    *,
    to: To = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    state_dir: Annotated[Path | None, typer.Option(help="Folder of local state.", show_default=False)] = None,
    brokers: Brokers = None,
    file: SettingsFile = None,
    pairs: Set = None,
) -> None:
    """Forget an app's offsets, changelogs, repartition topics and local state, to begin anew. Stop its workers first.

    Topics the app reads and writes stay as they are, so an app that runs again writes its results again. Local state on other
    machines is emptied by the workers there, when they see new changelogs (with Kafka before 2.8 delete it by hand).
    """
    from ..client import with_broker
    from ..load import app_or_name
    from ..reset import Known, perform_reset, plan_reset

    settings = settings_of(file, pairs, brokers=brokers, state_dir=state_dir)
    loaded, base = app_or_name(name)
    known = Known.of(loaded) if loaded else None

    async def work(broker: Broker) -> None:
        plan = await plan_reset(broker, base.name, settings.applied_to(base).state_dir, known, to)
        for line in plan.lines():
            typer.echo(line)
        if not dry_run:
            plan.check()
        if plan.empty:
            typer.echo("nothing to do")
        elif dry_run:
            typer.echo("dry run: nothing was changed")
        elif yes or typer.confirm(f"forget all this of {base.name}?"):
            await perform_reset(broker, plan)
            typer.echo(plan.done())
        else:
            raise typer.Abort

    with_broker(settings, work)
