"""Windows of one start that grow by a step up to a size (Flink's CUMULATE): sums of the day so far, each ten minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...topics.duration import Duration, duration_ms, duration_text
from ..errors import PlanError
from ..grid import Assigned, checked_sizes, described, ends_after, floored
from ..operator import Step
from ..operators.window_aggregate import WindowAggregate
from ..reducer import Reducer
from ..window import Emission


@dataclass(frozen=True, slots=True)
class _Cumulative:
    """`[s, s + k * step_ms)` for all k of 1 to size / step, with `s = offset_ms + n * size_ms`."""

    name: ClassVar[str] = "cumulative"
    size_ms: int
    step_ms: int
    offset_ms: int = 0

    def __post_init__(self) -> None:
        checked_sizes(self.name, {"size": self.size_ms, "step": self.step_ms})
        if over := self.size_ms % self.step_ms:
            fitting = [size for size in (self.size_ms - over, self.size_ms - over + self.step_ms) if size > 0]
            raise PlanError(
                f"cumulative: the size ({duration_text(self.size_ms)}) must be a multiple of the step "
                f"({duration_text(self.step_ms)}), such as {' or '.join(map(duration_text, fitting))}"
            )

    @property
    def windows_a_row_max(self) -> int:
        return self.size_ms // self.step_ms

    def last_ends(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        return floored(times, self.size_ms, self.offset_ms) + self.size_ms

    def starts(self, ends: NDArray[np.int64]) -> NDArray[np.int64]:
        return floored(ends - 1, self.size_ms, self.offset_ms)

    def assign(self, times: NDArray[np.int64]) -> Assigned:
        last = self.last_ends(times)
        if self.windows_a_row_max == 1:
            return None, last
        return ends_after(times, last, self.step_ms, self.windows_a_row_max)

    def describe(self) -> str:
        return described(self.name, self.size_ms, {"step": self.step_ms}, self.offset_ms)

    def aggregate(
        self,
        by: Sequence[str],
        aggregates: Sequence[tuple[str, Reducer]],
        grace_ms: int,
        emit: Emission,
        every_ms: int | None = None,
    ) -> Step:
        return WindowAggregate(self, tuple(by), tuple(aggregates), grace_ms, emit, every_ms=every_ms)


def cumulative(size: Duration, step: Duration, offset: Duration = 0) -> _Cumulative:
    """A row at t in the period `[s, s + size)` is in every `[s, s + k * step)` with `k * step > t - s`, `k * step <= size`.

    `s = offset + n * size`. Each window closes by its own end: a row late for the first of them still counts in those that
    are open, and a window without rows of its own repeats the one before it. Results of one key share their `window_start`;
    `window_end` tells them apart. A row is worked on once a window, so `size / step` is what it costs.

    Raises PlanError for a size or step that is not positive, a size that is no multiple of the step, and more than 10,000
    windows a row.
    """
    return _Cumulative(
        duration_ms(size, name="cumulative size"),
        duration_ms(step, name="cumulative step"),
        duration_ms(offset, name="cumulative offset"),
    )
