"""Installs each peer into `build/peers/<name>` and runs its job on the same input; a peer that cannot be installed is said so."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("build/peers")
HERE = Path(__file__).parent
TIMEOUT_S = 900


@dataclass(frozen=True)
class Peer:
    """`events_max`: of the input it is given; the slow ones get a prefix, with their start-up in the figure as everybody's."""

    name: str
    packages: tuple[str, ...]
    events_max: int
    by_environment: bool = False


PEERS = (
    Peer("pathway", ("pathway",), 3_000_000),
    Peer("quix", ("quixstreams",), 300_000),
    Peer("faust", ("faust-streaming", "aiokafka[lz4]"), 60_000, by_environment=True),
)


@dataclass(frozen=True)
class Measured:
    """CPU of the whole process tree, user and system."""

    cpu_s: float
    wall_s: float


def python_of(peer: Peer) -> Path | None:
    """Its interpreter, installed at the first use; None where its package is not to be had here."""
    python = FOLDER / peer.name / "bin" / "python"
    if python.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER / peer.name)], check=True)
    done = subprocess.run([str(python), "-m", "pip", "install", "-q", *peer.packages], check=False)
    return python if done.returncode == 0 else None


def run_peer(peer: Peer, bootstrap: str, topic: str, output: str, events: int) -> Measured | str:
    """What it cost, or why there is no figure: it could not be installed, or its program failed."""
    python = python_of(peer)
    if python is None:
        return "cannot be installed here"
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), str(HERE / f"{peer.name}_job.py")]
        environment = dict(os.environ)
        if peer.by_environment:
            names = {"BOOTSTRAP": bootstrap, "TOPIC": topic, "OUTPUT": output, "FOLDER": folder, "EVENTS": str(events)}
            environment |= names
            command += ["worker", "-l", "warn"]
        else:
            command += [bootstrap, topic, output, folder, str(events)]
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]
        return f"its program failed: {(lines or ['no error told'])[-1].strip()[:200]}"
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(cpu_s, time.perf_counter() - begun)
