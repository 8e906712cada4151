"""The one place where a worker reads a clock. Whatever decides is given the time as an argument."""

from __future__ import annotations

import time


def wall_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def monotonic_s() -> float:
    """For durations; never goes back."""
    return time.perf_counter()
