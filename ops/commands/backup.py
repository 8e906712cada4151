"""`millstream backup`: an app's state and offsets, as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ._options import Brokers, Set, SettingsFile, settings_of

if TYPE_CHECKING:
    from ...topics.broker import Broker

app = typer.Typer(name="backup", help="Write an app's state and offsets to files, at one consistent moment.")

Url = Annotated[
    str,
    typer.Argument(metavar="URL", help="A folder: a path, or any fsspec URL (s3://, gs://, ...).", show_default=False),
]


@app.command()
def backup(
    name: Annotated[
        str, typer.Argument(metavar="APP", help="Its TARGET (best), or only its name.", show_default=False)
    ],
    url: Url,
    *,
    brokers: Brokers = None,
    file: SettingsFile = None,
    pairs: Set = None,
) -> None:
    """Write an app's changelogs, what waits in its repartition topics, and its offsets to files. It may be running.

    Topics the app reads and writes are not in it. Bring it back with millstream restore.
    """
    from importlib.metadata import version

    from ..backup.place import Place
    from ..backup.progress import Lines
    from ..backup.take import take_backup
    from ..client import with_broker
    from ..load import app_or_name
    from ..reset import Known

    settings = settings_of(file, pairs, brokers=brokers)
    loaded, base = app_or_name(name)
    known = Known.of(loaded) if loaded else None
    place = Place(url)

    async def work(broker: Broker) -> None:
        lines = Lines(lambda line: typer.echo(line, err=True))
        taken = await take_backup(broker, base.name, place, lines, version=version("millstream"), known=known)
        typer.echo(
            f"backup of {taken.app}: {taken.records:,} records in {len(taken.files)} file(s), {taken.size_bytes:,} bytes; "
            f"{len(taken.offsets)} offsets; in {place.shown}"
        )

    with_broker(settings, work)
