"""`millstream demo`: live events, live answers and a killed worker, on a real Kafka, in about a minute."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="demo",
    help="Windows, joins and answers, live on a real Kafka, with a worker killed; every result is recounted.",
)


@app.command(epilog="Exit status: 0 everything came out right, 1 something did not, 2 usage, 3 no broker.")
def demo(
    *,
    seconds: Annotated[
        float, typer.Option(min=0, max=600, help="How long events flow before the questions are asked.")
    ] = 12,
    rate: Annotated[int, typer.Option(min=50, max=20_000, help="Events a second, one in five an order.")] = 2_500,
    keep: Annotated[bool, typer.Option("--keep", help="Leave ./.millstream-demo: documents, state, logs.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the view, as without a terminal.")] = False,
    falsify: Annotated[
        bool, typer.Option("--falsify", hidden=True, help="Compare with a wrong truth: the demo must fail.")
    ] = False,
    brokers: Annotated[
        str | None,
        typer.Option(
            "--brokers",
            metavar="HOST:PORT",
            help="Use this Kafka instead of a new one; how to log in says the environment (MILLSTREAM_*).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show Millstream at work in about a minute; exit status 0 only if every result was right.

    Starts Kafka and two workers, reads documents, lets events flow, edits and deletes documents, kills a worker with
    kill -9, and recounts every window and every joined pair from what was sent. Leaves nothing behind.
    """
    import uuid

    from rich.console import Console

    from ..demo.run import run_demo
    from ..demo.screen import Lines, Screen, Terminal
    from ..demo.settings import DemoSettings

    console = Console(highlight=False)
    kind = Lines if plain or not console.is_terminal else Terminal
    screen: Screen = kind(console, console.options.ascii_only)
    name = "shop" if brokers is None else f"shop-demo-{uuid.uuid4().hex[:8]}"
    settings = DemoSettings(name, brokers, keep=keep, flow_s=seconds, rate_per_s=rate, falsify=falsify)
    if not run_demo(settings, screen):
        raise typer.Exit(1)
