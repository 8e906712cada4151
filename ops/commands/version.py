"""`millstream version`."""

from __future__ import annotations

import typer

app = typer.Typer(name="version", help="Print the versions of Millstream, Python and the libraries it stands on.")


@app.command()
def version() -> None:
    """Print the versions of Millstream, Python and the libraries it stands on."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    for name in ("millstream", "aiokafka", "polars", "pyarrow", "rocksdict"):
        try:
            typer.echo(f"{name} {installed(name)}")
        except PackageNotFoundError:
            typer.echo(f"{name} (not installed as a package)")
    typer.echo(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
