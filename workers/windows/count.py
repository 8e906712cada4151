"""Windows of so many rows a key, by arrival: no start, no end, an ordinal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from ...topics.duration import duration_text
from ..errors import PlanError
from ..operator import Step
from ..operators.count_aggregate import CountAggregate
from ..reducer import Reducer
from ..window import Emission

ROWS_MAX: Final = 1_000_000_000
"""Rows a window: what keeps its rows (`collect`) holds as many."""


@dataclass(frozen=True, slots=True)
class _Count:
    name: ClassVar[str] = "count"
    rows: int
    partial: bool = False

    def __post_init__(self) -> None:
        rows: object = self.rows
        if isinstance(rows, bool) or not isinstance(rows, int) or not 1 <= rows <= ROWS_MAX:
            raise PlanError(f"count: n must be a whole number from 1 to {ROWS_MAX}, got {self.rows!r}")

    def describe(self) -> str:
        return f"count {self.rows}, partial" if self.partial else f"count {self.rows}"

    def aggregate(
        self,
        by: Sequence[str],
        aggregates: Sequence[tuple[str, Reducer]],
        grace_ms: int,
        emit: Emission,
        every_ms: int | None = None,
    ) -> Step:
        """Whatever `emit` is: a window is given once, when it is full."""
        for what, value in (("grace", grace_ms), ("every", every_ms)):
            if value:
                told = duration_text(value)
                raise PlanError(
                    f"window {self.describe()}: {what}={told} is of event time, by which no row is late; leave it out"
                )
        return CountAggregate(self.rows, tuple(by), tuple(aggregates), self.partial)


def count(n: int, partial: bool = False) -> _Count:
    """Every `n` rows of a key, by arrival; `window_ordinal` (from 0) in the place of `window_start` and `window_end`.

    A window is given once, when it is full, at once; `emit` changes nothing, no row is late. One that is not full at the end
    of a bounded run is given there with `partial`, and the run that goes on from it begins the next ordinal; without it, it
    stays open. Results depend on the order of arrival. How many windows a key has had is kept for good, so memory grows with
    the number of different keys: this is not for keys that are ever new. Raises PlanError for an n below 1 or above 1e9.
    """
    return _Count(n, partial)
