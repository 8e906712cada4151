"""A worker of the demo, as a process: `python -m millstream.ops.demo.worker JSON`. Ends at once when the demo is gone.

Otherwise it is `millstream run examples/shop/pipeline.py`, with the app's name and the embedder chosen by the demo.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import signal
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from ..logs import configure_logs
from ..run import run_app
from ..settings import RunSettings


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What the process is told."""

    example: str
    app: str
    embedder: str
    brokers: str
    reads_environment: bool
    """For the security of a Kafka that is not the demo's."""
    state_dir: str
    http_port: int
    session_timeout_ms: int

    def command(self) -> list[str]:
        return [sys.executable, "-m", "millstream.ops.demo.worker", json.dumps(asdict(self))]

    def settings(self) -> RunSettings:
        return RunSettings.of(
            flags={
                "brokers": self.brokers,
                "state_dir": Path(self.state_dir),
                "http_port": self.http_port,
                "kafka.session.timeout.ms": str(self.session_timeout_ms),
                "leave_on_stop": True,  # the demo ends with its group removed
            },
            environment=None if self.reads_environment else {},
        )


async def work(order: WorkerOrder) -> None:
    settings = order.settings()
    configure_logs(settings.log_format, settings.log_level, secrets=settings.secrets())
    app = runpy.run_path(order.example)["shop"](order.app, order.embedder)
    await run_app(app, settings)


def end_with_parent() -> None:
    """Standard input is a pipe that only the demo holds: its end means that the demo is gone, however it went."""
    while os.read(0, 1024):
        continue
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    asyncio.run(work(WorkerOrder(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
