"""A token bucket: so much a minute, a little more at once, and who must wait waits in order (Turner, "New directions in
communications", 1986). Decides only: the time is told, and how long to wait is the answer.

The bucket may owe: whoever takes is served in turn by what flows in later, so nobody who comes later is served earlier, and no
queue is needed. What is larger than the whole bucket goes when it is full.
"""

from __future__ import annotations


class TokenBucket:
    """`per_minute` flows in evenly, up to what flows in within `burst_ms`; a bucket holds at least one. Full at its start."""

    def __init__(self, per_minute: float, burst_ms: float) -> None:
        if per_minute <= 0 or burst_ms <= 0:
            raise ValueError("per_minute and burst_ms must be above 0")
        self._per_ms = per_minute / 60_000
        self._size = max(1.0, self._per_ms * burst_ms)
        self._level = self._size
        self._at_ms = 0.0

    def wait_ms(self, amount: float, now_ms: float) -> float:
        """How long one who takes so much now has to wait. Takes nothing."""
        missing = min(amount, self._size) - self._flowed(now_ms)
        return max(0.0, missing / self._per_ms)

    def take(self, amount: float, now_ms: float) -> None:
        """A negative amount gives back; more than the bucket holds runs over."""
        self._level = min(self._size, self._flowed(now_ms) - amount)
        self._at_ms = max(now_ms, self._at_ms)

    def _flowed(self, now_ms: float) -> float:
        return min(self._size, self._level + max(0.0, now_ms - self._at_ms) * self._per_ms)
