"""How far a backup or a restore is: a line on stderr now and then, for whoever waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ...workers.clock import monotonic_s

INTERVAL_S: Final = 1.0
"""Between two lines; work that takes less says nothing."""


@dataclass(slots=True)
class Lines:
    """Call it often with (what, done, left); `say` is called once a second."""

    say: Callable[[str], None]
    now_s: Callable[[], float] = monotonic_s
    _what: str = field(init=False, default="")
    _begun_s: float = field(init=False, default=0.0)
    _told_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._told_s = self.now_s()

    def __call__(self, what: str, done: int, left: int) -> None:
        now_s = self.now_s()
        if what != self._what:
            self._what, self._begun_s = what, now_s
        if now_s - self._told_s >= INTERVAL_S:
            self._told_s = now_s
            self.say(f"{what}: {done:,} of {done + left:,}{_rest(done, left, now_s - self._begun_s)}")


def _rest(done: int, left: int, took_s: float) -> str:
    if done == 0 or took_s <= 0:
        return ""
    rate = done / took_s
    return f", {rate:,.0f} a second, {left / rate:,.0f} s left"
