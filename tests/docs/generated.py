"""Tables of the reference that are made from the code. `python -m tests.docs.generated` writes them into the pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from millstream.ops.main import app
from millstream.ops.metric_table import metrics_table
from millstream.ops.settings import settings_table

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def cli_table() -> str:
    """A heading and a table of options for each command."""
    root: Any = typer.main.get_command(app)
    return "\n\n".join(_sections(root, "millstream"))


def _sections(command: Any, path: str) -> Iterator[str]:
    context = command.make_context(path, [], resilient_parsing=True)
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            yield from _sections(command.get_command(context, name), f"{path} {name}")
        return
    rows = [_row(one) for one in command.params if one.name != "help"]
    head = "| argument or option | what it is |\n|---|---|\n"
    usage = " ".join(command.collect_usage_pieces(context))
    told = " ".join((command.help or "").split())
    yield f"## {path}\n\n`{path} {usage}`\n\n{told}" + ("\n\n" + head + "\n".join(rows) if rows else "")


def _row(one: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
    if one.param_type_name == "argument":
        names = f"`{one.metavar or one.name.upper()}`"
    return f"| {names} | {(one.help or '').replace('|', chr(92) + '|')} |"


TABLES: dict[str, Callable[[], str]] = {"settings": settings_table, "metrics": metrics_table, "cli": cli_table}


def with_table(page: str, name: str) -> str:
    """The page with the table between its two marks."""
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    assert marks.search(page), f"no marks for {name}"
    return marks.sub(lambda found: f"{found[1]}\n{TABLES[name]()}\n\n{found[2]}", page)


if __name__ == "__main__":
    for table in TABLES:
        file = REFERENCE / f"{table}.md"
        file.write_text(with_table(file.read_text(), table))
