"""What a worker tells about itself, and to whom: `ops/metrics.py` is one listener, a test's list another.

Names are those of the metrics, without the `millstream_` before them; labels are few and bounded (step, topic, reason).
"""

from __future__ import annotations

from typing import Protocol


class Instrument(Protocol):
    """Called from the event loop and from worker threads; must be quick and never raise."""

    def count(self, name: str, amount: int | float = 1, **labels: str) -> None:
        """Adds to a counter."""
        ...

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Sets a value that goes up and down."""
        ...

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Adds one duration to a distribution."""
        ...


class Silent:
    """Tells nobody."""

    def count(self, name: str, amount: int | float = 1, **labels: str) -> None:
        pass

    def gauge(self, name: str, value: float, **labels: str) -> None:
        pass

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        pass


class Remembered:
    """Keeps the sums, for tests and for runs that print a summary: `{("late_rows", (("step", "window-1"),)): 3}`."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def count(self, name: str, amount: int | float = 1, **labels: str) -> None:
        key = (name, tuple(sorted(labels.items())))
        self.counts[key] = self.counts.get(key, 0) + amount

    def gauge(self, name: str, value: float, **labels: str) -> None:
        pass

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        pass

    def total(self, name: str) -> float:
        """Over all labels."""
        return sum(amount for (counted, _), amount in self.counts.items() if counted == name)
