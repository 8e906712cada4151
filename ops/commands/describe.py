"""`millstream describe`: what an app will do, without doing it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ._options import Target

app = typer.Typer(name="describe", help="Show an app's topology as text, as a picture, or as JSON.")


class Format(StrEnum):
    """How to show it."""

    TEXT = "text"
    SVG = "svg"
    JSON = "json"


@app.command()
def describe(
    target: Target,
    *,
    form: Annotated[Format, typer.Option("--format", help="svg is a picture for a browser or a page.")] = Format.TEXT,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to a file.", show_default=False)] = None,
) -> None:
    """Show an app's topology: sub-topologies, steps, stores, and the topics between them. No broker is needed."""
    from ..load import load_app

    shown = _shown(load_app(target), form)
    if output is None:
        typer.echo(shown, nl=False)
        return
    from ..errors import InputError

    try:
        output.write_text(shown, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {str(output)!r} cannot be written: {error.strerror}") from error
    typer.echo(f"written to {output}")


def _shown(loaded: object, form: Format) -> str:
    import orjson

    from ...workers.app import App
    from ..describe.outline import outline_of
    from ..describe.svg import as_svg
    from ..describe.text import as_text

    assert isinstance(loaded, App), "load_app gives apps"
    outline = outline_of(loaded)
    if form is Format.TEXT:
        return as_text(outline)
    if form is Format.SVG:
        return as_svg(outline)
    return orjson.dumps(outline.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
