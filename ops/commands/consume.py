"""`millstream consume`: what is in a topic."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ._options import Brokers, Set, SettingsFile, settings_of

if TYPE_CHECKING:
    from ...topics.broker import Broker
    from ..consume import Shown

app = typer.Typer(name="consume", help="Show the records of a topic as they come.")


class Format(StrEnum):
    """How to show a record."""

    JSON = "json"
    TABLE = "table"
    VALUE = "value"


@app.command()
def consume(
    topic: Annotated[str, typer.Argument(show_default=False)],
    *,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Else what comes from now on.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Stop after so many.", show_default=False)
    ] = None,
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop at the end, as it is now.")] = False,
    form: Annotated[
        Format, typer.Option("--format", help="A JSON object a line, a table, or the values alone.")
    ] = Format.JSON,
    headers: Annotated[bool, typer.Option("--headers", help="Show them too.")] = False,
    brokers: Brokers = None,
    file: SettingsFile = None,
    pairs: Set = None,
) -> None:
    """Show the records of a topic as they come, from all its partitions, until Ctrl-C. Only committed ones are read."""
    from ..client import existing_topic, with_broker
    from ..consume import records_of

    settings = settings_of(file, pairs, brokers=brokers)

    async def work(broker: Broker) -> None:
        info = await existing_topic(broker, topic)
        records = records_of(
            broker, topic, info.partitions, from_beginning=from_beginning, until_end=until_end, limit=limit
        )
        if form is Format.TABLE:
            typer.echo(_line(_HEAD[: 5 + headers]))
        async for record in records:
            _show(record, form, headers=headers)

    with_broker(settings, work)


_HEAD = ["part", "offset", "time (UTC)", "key", "value", "headers"]


def _show(record: Shown, form: Format, *, headers: bool) -> None:
    from ..consume import as_cells, as_json

    if form is Format.TABLE:
        typer.echo(_line(as_cells(record, headers=headers)))
        return
    line = (record.value or b"") if form is Format.VALUE else as_json(record, headers=headers)
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _line(cells: list[str]) -> str:
    """Columns by fixed widths, as nobody knows what is yet to come."""
    widths = (4, 8, 23, 16, 0, 0)
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)).rstrip()
