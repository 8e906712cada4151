"""`millstream batch`: the same app over files, with no broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._options import Target

if TYPE_CHECKING:
    import polars as pl

app = typer.Typer(name="batch", help="Run an app over files, to their end, with no broker.")


@app.command()
def batch(
    target: Target,
    *,
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input", metavar="TOPIC=FILE", help="Rows of an input topic (.jsonl, .csv, .parquet); repeatable."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for a file an output topic.")],
    form: Annotated[str, typer.Option("--format", help="Of the files written: jsonl or parquet.")] = "jsonl",
) -> None:
    """Run an app over files, to their end, with no broker. Every window closes; the results are those of a streaming run."""
    from ...workers.batch_run import run_batch
    from ...workers.graph import Source
    from ...workers.instrument import Remembered
    from ..errors import InputError
    from ..load import load_app

    if form not in {"jsonl", "parquet"}:
        raise InputError(f"--format {form!r}: expected jsonl or parquet")
    counts = Remembered()
    loaded, files = load_app(target), _files(inputs)
    for source in loaded.graph:
        if isinstance(source, Source) and source.topic.event_time is None:
            raise InputError(
                f"topic {source.topic.name!r} declares no event_time, and a file has no record timestamps; declare one"
            )
    results = run_batch(loaded, files, instrument=counts)
    try:
        output.mkdir(parents=True, exist_ok=True)
        for topic, frame in results.items():
            file = output / f"{topic}.{form}"
            _write(frame, file, form)
            typer.echo(f"{frame.height} rows to {file}")
        for (name, labels), amount in sorted(counts.counts.items()):
            if name not in {"records_in", "records_out"}:
                typer.echo(
                    f"{amount:g} {name} ({', '.join(f'{key} {value}' for key, value in labels if value)})", err=True
                )
    except OSError as error:
        raise InputError(f"--output {str(output)!r} cannot be written: {error.strerror or error}") from error


def _files(inputs: list[str]) -> dict[str, pl.DataFrame | Path]:
    from ..errors import InputError

    files: dict[str, pl.DataFrame | Path] = {}
    for given in inputs:
        topic, equals, name = given.partition("=")
        if not equals or not topic or not name:
            raise InputError(f"--input {given!r}: write TOPIC=FILE, as in --input clicks=clicks.jsonl")
        if not Path(name).is_file():
            raise InputError(f"--input {given!r}: no file {name!r}")
        files[topic] = Path(name)
    return files


def _write(frame: pl.DataFrame, file: Path, form: str) -> None:
    if form == "parquet":
        frame.write_parquet(file)
    else:
        frame.write_ndjson(file)
