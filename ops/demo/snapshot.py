"""Everything the view shows at one moment, frozen: the director makes one, the view draws it, neither knows the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .progress import Sample, rates, shown
from .story import Story

Level = Literal["ok", "warn", "bad", "idle"]

ABOUT_S: Final = 65
"""How long it takes on two cores; said beside the time that has passed."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """One worker in the row of workers."""

    name: str
    level: Level
    word: str


@dataclass(frozen=True, slots=True)
class Talk:
    """One line of questions and answers. `mark`: Q, A, an arrow, or nothing."""

    mark: Literal["Q", "A", "→", ""]
    text: str
    level: Literal["plain", "strong", "soft", "warn"] = "plain"


@dataclass(frozen=True, slots=True)
class Live:
    """The figures of the moment, and their last seconds, oldest first."""

    in_per_s: float
    done_per_s: float
    behind_ms: float
    in_line: tuple[float, ...] = ()
    done_line: tuple[float, ...] = ()
    behind_line: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of the demo."""

    story: Story
    elapsed_s: float
    live: Live | None = None
    """None before the first event."""
    workers: tuple[WorkerSeen, ...] = ()
    note: str = ""
    """Told where the figures will stand, until there are some."""
    talk: tuple[Talk, ...] = ()
    ending: tuple[tuple[str, str, str], ...] = ()
    """The last lines, once it is over: word, what, and what for."""
    about_s: float = ABOUT_S


def live_of(samples: Sequence[Sample]) -> Live | None:
    """The figures that the samples give; None while there are too few."""
    if len(samples) < 3:
        return None
    last = shown(samples)
    # over a second each: a quarter of one holds a commit or none
    pairs = [rates(last[: row + 1], 1.0) for row in range(1, len(last))]
    in_per_s, done_per_s = rates(samples)
    return Live(
        in_per_s,
        done_per_s,
        samples[-1].behind_s * 1000,
        tuple(came for came, _ in pairs),
        tuple(done for _, done in pairs),
        tuple(sample.behind_s * 1000 for sample in last[1:]),
    )
