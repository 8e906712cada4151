"""`millstream broker`: a real Apache Kafka on this machine, without Docker and without Java installed.

Exit codes: 0 done; 1 Kafka failed, or `status` and `logs` where none runs; 2 wrong usage; 3 port taken; 4 already
running; 5 no Java; 6 jars neither cached nor to be downloaded; 7 jar refused; 8 directory unusable.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from ..local_broker import LocalBroker, LocalBrokerError
from ..local_broker.cluster import Plan
from ..local_broker.inspect import age_s, count_topics, disk_bytes
from ..local_broker.jars import KAFKA_VERSION

DEFAULT_DIRECTORY = Path(".millstream", "broker")
DEFAULT_PORT = 9092

app = typer.Typer(
    name="broker",
    help="A real Apache Kafka on this machine, with nothing installed.",
    epilog=(
        "Exit status: 0 done, 1 Kafka failed or none runs, 2 usage, 3 port taken, 4 already running, 5 no Java, "
        "6 jars neither cached nor to be downloaded, 7 jar refused, 8 directory unusable."
    ),
    no_args_is_help=True,
    add_completion=False,
)

Directory = Annotated[Path, typer.Option("--dir", help="Where the broker keeps its data.", file_okay=False)]


@app.command()
def start(
    directory: Directory = DEFAULT_DIRECTORY,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Of the first node; the next ones follow.")
    ] = DEFAULT_PORT,
    nodes: Annotated[int | None, typer.Option(min=1, max=9, help="1 where the folder is new.")] = None,
    secured: Annotated[bool | None, typer.Option("--secured/--open", help="SASL_SSL, SCRAM and ACLs.")] = None,
    foreground: Annotated[bool, typer.Option(help="Stay, and stop with Ctrl-C.")] = False,
) -> None:
    """Start Kafka and say where it listens; data stays from start to start."""
    with _told():
        kept = Plan.read(directory)
        broker = LocalBroker(
            directory,
            port=port,
            nodes=nodes or (kept.nodes if kept else 1),
            secured=secured if secured is not None else bool(kept and kept.secured),
            detached=not foreground,
        )
        began = time.monotonic()
        broker.start()
        typer.echo(f"Kafka {KAFKA_VERSION} at {broker.bootstrap}, ready in {time.monotonic() - began:.1f} s")
        typer.echo(f"data in {broker.directory}")
        if broker.secured:
            typer.echo(f"client settings in {broker.directory / 'secrets'}/admin.properties and guest.properties")
        if foreground:
            _stay(broker)
        else:
            typer.echo(f"stop it with: millstream broker stop{_option(directory)}")


@app.command()
def status(directory: Directory = DEFAULT_DIRECTORY) -> None:
    """Say whether it runs: address, version, pids, uptime, topics, disk. Exit 1 where it does not."""
    with _told():
        broker = LocalBroker.attach(directory)
        if broker is None:
            typer.echo(f"no broker in {directory}; start one with: millstream broker start{_option(directory)}")
            raise typer.Exit(1)
        for line in _describe(broker):
            typer.echo(line)
        if not any(broker.pids()):
            raise typer.Exit(1)


@app.command()
def stop(directory: Directory = DEFAULT_DIRECTORY) -> None:
    """End it in good order; its data stays. Nothing to do is no error."""
    with _told():
        broker = LocalBroker.attach(directory)
        running = [pid for pid in broker.pids() if pid] if broker else []
        stale = list(_stale(broker)) if broker else []
        if broker:
            broker.stop()
        for line in stale:
            typer.echo(f"{line}; pid file removed, that process left alone")
        told = f"stopped (pid {', '.join(map(str, running))})" if running else "no broker runs"
        typer.echo(f"{told} in {directory}")


@app.command()
def path(directory: Directory = DEFAULT_DIRECTORY) -> None:
    """Print the folder of its data."""
    typer.echo(str(directory.absolute()))


@app.command()
def logs(
    directory: Directory = DEFAULT_DIRECTORY,
    node: Annotated[int, typer.Option(min=1, help="Which node, from 1.")] = 1,
    lines: Annotated[int, typer.Option(min=1, help="How many lines from the end.")] = 50,
) -> None:
    """Print the end of a node's log."""
    log = directory / f"node-{node}" / "server.log"
    try:
        with log.open(errors="replace") as text:
            last = deque(text, maxlen=lines)
    except OSError as error:
        typer.echo(f"no log at {log}: {error.strerror}", err=True)
        raise typer.Exit(1) from error
    typer.echo("".join(last), nl=False)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tells the errors we know as one message, with their exit codes."""
    try:
        yield
    except LocalBrokerError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


def _stay(broker: LocalBroker) -> None:
    """Waits for Ctrl-C or SIGTERM, then stops the broker."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs with SIGINT ignored
            signal.signal(number, end)
        typer.echo("running; Ctrl-C stops it")
        sys.stdout.flush()
        broker.wait()
    except KeyboardInterrupt:
        typer.echo("stopping")
    finally:
        broker.stop()


def _describe(broker: LocalBroker) -> Iterator[str]:
    pids = broker.pids()
    up = [node for node, pid in enumerate(pids, 1) if pid]
    mode = "SASL_SSL, SCRAM-SHA-512, ACLs" if broker.secured else "no security, loopback only"
    yield f"{'running' if len(up) == len(pids) else f'{len(up)} of {len(pids)} nodes running' if up else 'not running'}"
    yield f"address  {broker.bootstrap}"
    yield f"version  Kafka {KAFKA_VERSION}, {len(pids)} node{'s' * (len(pids) > 1)}, {mode}"
    for process, pid in zip(broker.processes, pids, strict=True):
        age = age_s(process.pid_file)
        if pid and age is not None:
            yield f"pid      {pid}, up {_duration(age)}"
    yield from _stale(broker)
    if up:
        topics = count_topics(broker.bootstrap, broker.security)
        yield f"topics   {'no answer' if topics is None else topics}"
    yield f"disk     {disk_bytes(broker.directory) / 1e6:.1f} MB in {broker.directory}"


def _stale(broker: LocalBroker) -> Iterator[str]:
    for process in broker.processes:
        recorded = process.recorded_pid
        if recorded is not None and process.pid is None:
            yield f"stale    {process.pid_file} names pid {recorded}, which is not this broker"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _option(directory: Path) -> str:
    return "" if directory == DEFAULT_DIRECTORY else f" --dir {directory}"
