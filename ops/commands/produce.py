"""`millstream produce`: rows into a topic."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._options import Brokers, Set, SettingsFile, settings_of

if TYPE_CHECKING:
    from ...topics.broker import Broker
    from ..produce import Row

app = typer.Typer(name="produce", help="Write rows to a topic: arguments, a file of lines, or stdin.")


@app.command()
def produce(
    topic: Annotated[str, typer.Argument(help="Made with --partitions where it does not exist.", show_default=False)],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY:VALUE]...", help="Rows; without any they are read from --file or stdin."),
    ] = None,
    *,
    rows_file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A value a line, as in rows.jsonl.", show_default=False)
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Field of the JSON value that is the key; several with commas.", show_default=False),
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, help="Of a topic that is made.")] = 1,
    create: Annotated[bool, typer.Option("--create/--no-create", help="Make a topic that does not exist.")] = True,
    brokers: Brokers = None,
    file: SettingsFile = None,
    pairs: Set = None,
) -> None:
    """Write rows to a topic: arguments (`alice:{"page": "/"}`), a file of lines, or stdin.

    An argument up to its first colon is the key, unless it begins like JSON. Of a line the key is taken by --key.
    """
    from ..client import with_broker
    from ..produce import send

    rows = _rows(values or [], rows_file, [name.strip() for name in key.split(",")] if key else [])
    settings = settings_of(file, pairs, brokers=brokers)

    async def work(broker: Broker) -> int:
        return await send(broker, topic, await _partitions(broker, topic, partitions, create=create), rows)

    sent = with_broker(settings, work)
    typer.echo(f"{sent} record{'' if sent == 1 else 's'} to {topic}", err=True)


def _rows(values: list[str], file: Path | None, key: list[str]) -> Iterator[Row]:
    """Opened before the broker is asked for, so that a wrong name costs no connection."""
    from ..errors import InputError
    from ..produce import Row, key_of, row_of_argument, rows_of_lines

    if values and file:
        raise InputError("give rows as arguments or by --file, not both")
    if values and key:
        return (Row(key_of(one.encode(), key, f"row {number}"), one.encode()) for number, one in enumerate(values, 1))
    if values:
        return (row_of_argument(one) for one in values)
    if file is None:
        return rows_of_lines(sys.stdin.buffer, key, "stdin")
    try:
        return rows_of_lines(file.open("rb"), key, str(file))
    except OSError as error:
        raise InputError(f"--file {str(file)!r} cannot be read: {error.strerror}") from error


async def _partitions(broker: Broker, topic: str, partitions: int, *, create: bool) -> int:
    from ...topics.broker import TopicSpec
    from ..client import existing_topic

    found = await broker.describe_topics([topic])
    if topic not in found and create:
        await broker.create_topics([TopicSpec(topic, partitions)])
        typer.echo(f"made topic {topic} with {partitions} partition{'' if partitions == 1 else 's'}", err=True)
    return (await existing_topic(broker, topic)).partitions
