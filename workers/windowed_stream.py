"""A stream grouped by key and window; `agg` gives the stream of results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..topics.topic import Topic
from .errors import PlanError
from .reducer import Reducer
from .window import Window

if TYPE_CHECKING:
    from .stream import Stream

Emission = Literal["update", "final"]


@dataclass(frozen=True, slots=True)
class WindowedStream:
    """What `Stream.window` gives."""

    stream: Stream
    window: Window
    by: tuple[str, ...]
    grace_ms: int
    emit: Emission
    late_to: str | Topic | None
    name: str | None
    every_ms: int | None = None

    def agg(self, **aggregates: Reducer) -> Stream:
        """One result column a keyword: `.agg(n=count(), total=sum("price"))`. For windows by count see `windows/count.py`.

        Rows of the result: the `by` columns, `window_start`, `window_end` (ms, end exclusive), the named columns. Its time
        is `window_end - 1`; it is keyed by the `by` columns (session windows with `emit="update"` or `every`: and
        `window_start`) and stays partitioned as its input is.
        """
        if not aggregates:
            raise PlanError("agg needs at least one reducer, as in agg(n=count())")
        step = self.window.aggregate(self.by, tuple(aggregates.items()), self.grace_ms, self.emit, self.every_ms)
        stream = self.stream
        if self.late_to is not None and len(step.output_schemas([stream.schema])) == 1:
            raise PlanError(f"window {self.window.describe()}: no row is ever late, so leave out late_to")
        result = stream.then(step, name=self.name)
        if self.late_to is not None:
            result.output(1).to(self.late_to)
        return type(stream)(stream.graph, result.port, stream.partitioned_by, self._key())

    def _key(self) -> tuple[str, ...]:
        """A session that was merged away is taken back by a tombstone, which must say which session of the key it was."""
        early = self.emit == "update" or self.every_ms is not None
        retracts = self.window.name == "session" and early
        return (*self.by, "window_start") if retracts else self.by
