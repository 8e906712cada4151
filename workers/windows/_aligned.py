"""What tumbling and hopping windows are as values: a grid, and the step that gathers by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..grid import Grid
from ..operator import Step
from ..operators.window_aggregate import WindowAggregate
from ..reducer import Reducer
from ..window import Emission


@dataclass(frozen=True, slots=True)
class AlignedWindow(Grid):
    """A `Window` on a grid."""

    def aggregate(
        self,
        by: Sequence[str],
        aggregates: Sequence[tuple[str, Reducer]],
        grace_ms: int,
        emit: Emission,
        every_ms: int | None = None,
    ) -> Step:
        return WindowAggregate(self, tuple(by), tuple(aggregates), grace_ms, emit, every_ms=every_ms)
