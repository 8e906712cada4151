"""Windows aligned to the epoch: which of them a time falls in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..topics.duration import duration_text
from .errors import PlanError

WINDOWS_A_ROW_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Grid:
    """Every `[start, start + size_ms)` with `start = offset_ms + n * hop_ms`, for all integers n, below zero too.

    Raises PlanError for a size or hop that is not positive, and for more than 10,000 windows a row.
    """

    name: str
    """The window kind, as in YAML."""
    size_ms: int
    hop_ms: int
    offset_ms: int = 0

    def __post_init__(self) -> None:
        for what, value in (("size", self.size_ms), ("hop", self.hop_ms)):
            if value <= 0:
                raise PlanError(f"{self.name}: {what} must be longer than 0, got {duration_text(value)}")
        if self.windows_a_row_max > WINDOWS_A_ROW_MAX:
            raise PlanError(
                f"{self.name}: a size of {duration_text(self.size_ms)} and a hop of {duration_text(self.hop_ms)} put each "
                f"row in {self.windows_a_row_max} windows (at most {WINDOWS_A_ROW_MAX}); choose a longer hop"
            )

    @property
    def windows_a_row_max(self) -> int:
        return -(-self.size_ms // self.hop_ms)

    def last_starts(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """The start of the last window that begins at or before each time (it need not reach it: `hop > size` leaves gaps)."""
        if self.offset_ms == 0:
            return times // self.hop_ms * self.hop_ms
        return (times - self.offset_ms) // self.hop_ms * self.hop_ms + self.offset_ms

    def assign(self, times: NDArray[np.int64]) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
        """(rows, starts): row `rows[i]` is in the window that starts at `starts[i]`; rows ascend.

        rows None: each row is in one window, `starts[row]`.
        """
        last = self.last_starts(times)
        if self.size_ms == self.hop_ms:
            return None, last
        if self.windows_a_row_max == 1:
            inside = np.flatnonzero(last + self.size_ms > times)
            return inside, last[inside]
        starts = last[:, None] - np.arange(self.windows_a_row_max) * self.hop_ms
        covers = starts + self.size_ms > times[:, None]
        return np.nonzero(covers)[0], starts[covers]

    def describe(self) -> str:
        parts = [duration_text(self.size_ms)]
        if self.name != "tumbling":
            parts.append(f"hop {duration_text(self.hop_ms)}")
        if self.offset_ms:
            parts.append(f"offset {duration_text(self.offset_ms)}")
        return f"{self.name} {', '.join(parts)}"
