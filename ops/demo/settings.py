"""How the demo is run, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(".millstream-demo")
EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "shop"
"""A wheel holds this one of the examples."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """Rates are records a second over both topics; one record in five is an order."""

    app: str = "shop"
    """Consumer group, and the prefix of every topic."""
    brokers: str | None = None
    """An existing Kafka; None: one is started, and ended with the demo."""
    folder: Path = FOLDER
    """Documents, state, logs and Kafka's data, removed at the end unless `keep`."""
    example: Path = EXAMPLE
    keep: bool = False
    embedder: str | None = None
    """None: `local` where its model is installed, else `hashing`."""
    flow_s: float = 12.0
    """How long events flow before the questions are asked."""
    rate_per_s: int = 2_500
    history_s: int = 360
    """Orders and views of so long before the start are sent at once, at a tenth of the rate and less."""
    history_rows: int = 20_000
    seed: int = 7
    workers: int = 2
    partitions: int = 4
    session_timeout_ms: int = 6_000
    """When the group takes a silent worker for dead; the least that brokers allow by default."""
    step_timeout_s: float = 90.0
    """No step may take longer; the recount then says what is missing."""
    falsify: bool = False
    """The negative control: compare with a truth that is wrong."""

    def topic(self, name: str) -> str:
        return f"{self.app}.{name}"
