"""A circuit breaker: an endpoint that only fails is let alone for a while (Nygard, "Release It!", 2007). Decides only: the time is told.

    closed      all are let through             failures in a row, or their share of the last attempts -> open
    open        nobody is                       `open_ms` over -> half-open
    half-open   one is, and tried on            it succeeds -> closed; it fails -> open; it says nothing -> the next is tried on

What an attempt tells counts only for the state it began in: a failure that was under way when the circuit opened closes nothing
and opens nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """Of one attempt that was let through."""

    era: int


class Circuit:
    """`failures_max` in a row open it, or a share of `failures_share_max` of the last `window_attempts`; 0: not that way."""

    def __init__(self, failures_max: int, failures_share_max: float, window_attempts: int, open_ms: float) -> None:
        self._failures_max = failures_max
        self._share_max = failures_share_max
        self._open_ms = open_ms
        self._window: deque[bool] = deque(maxlen=window_attempts)
        self._in_a_row = 0
        self._era = 0
        self._opened_ms = 0.0
        self._is_tried = False
        self.state: State = "closed"

    def admit(self, now_ms: float) -> Ticket | float:
        """A ticket, or for how many milliseconds more nobody is let through (0: one is being tried on)."""
        if self.state == "open":
            if (left_ms := self.left_ms(now_ms)) > 0:
                return left_ms
            self._become("half-open")
        if self.state == "half-open":
            if self._is_tried:
                return 0.0
            self._is_tried = True
        return Ticket(self._era)

    def left_ms(self, now_ms: float) -> float:
        """Until one is let through again; 0: now."""
        return max(0.0, self._opened_ms + self._open_ms - now_ms) if self.state == "open" else 0.0

    def told(self, ticket: Ticket, ok: bool | None, now_ms: float) -> bool:
        """What came of it; None: nothing that speaks for or against the endpoint. True: that has opened the circuit."""
        if ticket.era != self._era:
            return False
        if ok is None:
            self._is_tried = False
            return False
        if self.state == "half-open":
            self._become("closed" if ok else "open")
            self._opened_ms = now_ms
            return not ok
        self._window.append(ok)
        self._in_a_row = 0 if ok else self._in_a_row + 1
        if not ok and self._has_failed():
            self._become("open")
            self._opened_ms = now_ms
            return True
        return False

    def _has_failed(self) -> bool:
        if 0 < self._failures_max <= self._in_a_row:
            return True
        is_full = len(self._window) == self._window.maxlen
        return 0 < self._share_max <= self._window.count(False) / len(self._window) and is_full

    def _become(self, state: State) -> None:
        self.state, self._era = state, self._era + 1
        self._is_tried, self._in_a_row = False, 0
        self._window.clear()
