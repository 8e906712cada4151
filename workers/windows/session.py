"""Windows as long as a key is busy: they end when it has been quiet for a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...topics.duration import Duration, duration_ms, duration_text
from ..errors import PlanError
from ..operator import Step
from ..operators.session_aggregate import SessionAggregate
from ..reducer import Reducer
from ..window import Emission


@dataclass(frozen=True, slots=True)
class _Session:
    name: ClassVar[str] = "session"
    gap_ms: int

    def __post_init__(self) -> None:
        if self.gap_ms <= 0:
            raise PlanError(f"session: the gap must be longer than 0, got {duration_text(self.gap_ms)}")

    def describe(self) -> str:
        return f"session {duration_text(self.gap_ms)}"

    def aggregate(
        self,
        by: Sequence[str],
        aggregates: Sequence[tuple[str, Reducer]],
        grace_ms: int,
        emit: Emission,
        every_ms: int | None = None,
    ) -> Step:
        return SessionAggregate(self.gap_ms, tuple(by), tuple(aggregates), grace_ms, emit, every_ms=every_ms)


def session(gap: Duration) -> _Session:
    """Two neighbours of one key share a session iff `later - earlier < gap` (strict; Kafka Streams' gap g is our g + 1 ms).

    A session is `[first, last + gap)`. Raises PlanError for a gap that is not positive.
    """
    return _Session(duration_ms(gap, name="session gap"))
