"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..settings import RunSettings

Target = Annotated[
    str,
    typer.Argument(metavar="TARGET", help="FILE.py[:NAME], package.module:NAME or pipeline.yaml", show_default=False),
]
Brokers = Annotated[
    str | None,
    typer.Option("--brokers", metavar="HOST:PORT", help="Kafka; default 127.0.0.1:9092.", show_default=False),
]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", metavar="FILE.toml", help="Settings from a file.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any other setting; repeatable. `kafka.<name>` for Kafka's own.",
        show_default=False,
    ),
]


def settings_of(
    file: Path | None, pairs: list[str] | None, code: Mapping[str, object] | None = None, **flags: Any
) -> RunSettings:
    """Flags that were not given (None) leave the environment and the file as they are. `code`: what the pipeline itself says."""
    from ..errors import SettingsError
    from ..settings import RunSettings

    given: dict[str, object] = {name: value for name, value in flags.items() if value is not None}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair}: write NAME=VALUE, as in --set poll_records_max=10000")
        given[name.strip()] = value
    return RunSettings.of(code=code, file=file, flags=given)
