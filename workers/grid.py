"""Windows aligned to the epoch: which of them a time falls in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..topics.duration import duration_text
from .errors import PlanError

WINDOWS_A_ROW_MAX: Final = 10_000

Assigned = tuple[NDArray[np.int64] | None, NDArray[np.int64]]
"""(rows, ends): row `rows[i]` is in the window that ends at `ends[i]`; rows ascend. Rows None: each is in one, `ends[row]`."""


class Aligned(Protocol):
    """Windows that are the same for every key. No two end at the same time, so a window is known by its end."""

    @property
    def windows_a_row_max(self) -> int: ...

    def assign(self, times: NDArray[np.int64]) -> Assigned:
        """The windows of each time."""
        ...

    def starts(self, ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of the windows with these ends."""
        ...

    def last_ends(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """The end of the last window that begins at or before each time (it need not reach it: `hop > size` leaves gaps)."""
        ...

    def describe(self) -> str: ...


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
        checked_sizes(self.name, {"size": self.size_ms, "hop": self.hop_ms})

    @property
    def windows_a_row_max(self) -> int:
        return -(-self.size_ms // self.hop_ms)

    def last_ends(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        return floored(times, self.hop_ms, self.offset_ms) + self.size_ms

    def starts(self, ends: NDArray[np.int64]) -> NDArray[np.int64]:
        return ends - self.size_ms

    def assign(self, times: NDArray[np.int64]) -> Assigned:
        last = self.last_ends(times)
        if self.size_ms == self.hop_ms:
            return None, last
        if self.windows_a_row_max == 1:
            inside = np.flatnonzero(last > times)
            return inside, last[inside]
        return ends_after(times, last, self.hop_ms, self.windows_a_row_max)

    def describe(self) -> str:
        others = {} if self.name == "tumbling" else {"hop": self.hop_ms}
        return described(self.name, self.size_ms, others, self.offset_ms)


def checked_sizes(kind: str, sizes: Mapping[str, int]) -> None:
    """The size of a window and how often one ends, each by its name. Raises PlanError (see `Grid`)."""
    for what, value in sizes.items():
        if value <= 0:
            raise PlanError(f"{kind}: {what} must be longer than 0, got {duration_text(value)}")
    (_, size), (every_name, every) = sizes.items()
    windows = -(-size // every)
    if windows > WINDOWS_A_ROW_MAX:
        raise PlanError(
            f"{kind}: a size of {duration_text(size)} and a {every_name} of {duration_text(every)} put each "
            f"row in {windows} windows (at most {WINDOWS_A_ROW_MAX}); choose a longer {every_name}"
        )


def floored(times: NDArray[np.int64], period_ms: int, offset_ms: int) -> NDArray[np.int64]:
    """The last `offset + n * period` at or before each time."""
    if offset_ms == 0:
        return times // period_ms * period_ms
    return (times - offset_ms) // period_ms * period_ms + offset_ms


def ends_after(times: NDArray[np.int64], last: NDArray[np.int64], every_ms: int, windows_max: int) -> Assigned:
    """Those of `last[row]`, `last[row] - every`, ... (`windows_max` of them) that are after the row's time."""
    ends = last[:, None] - np.arange(windows_max) * every_ms
    covers = ends > times[:, None]
    return np.nonzero(covers)[0], ends[covers]


def described(kind: str, size_ms: int, others: Mapping[str, int], offset_ms: int) -> str:
    """`hopping 10s, hop 5s, offset 1s`."""
    parts = [duration_text(size_ms), *(f"{what} {duration_text(value)}" for what, value in others.items())]
    if offset_ms:
        parts.append(f"offset {duration_text(offset_ms)}")
    return f"{kind} {', '.join(parts)}"
