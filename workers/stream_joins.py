"""The fluent face of the joins. What each promises is said in the step it adds (`operators/`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..topics.duration import Duration, duration_ms
from ..topics.topic import Topic
from .operators.interval_join import How, IntervalJoin
from .stream_base import Columns, StreamBase, as_names


@dataclass(frozen=True, slots=True)
class StreamJoins(StreamBase):
    """Rows of a stream with rows of another stream, or of a table."""

    def interval_join(
        self,
        right: StreamBase,
        *,
        on: Columns,
        lower: Duration,
        upper: Duration,
        how: How = "inner",
        grace: Duration = "0s",
        suffix: str = "_right",
        late_to: str | Topic | None = None,
        name: str | None = None,
    ) -> Self:
        """Pairs rows of equal `on` columns where `left.t + lower <= right.t <= left.t + upper`, both inclusive.

        To pair a purchase with the views of the five minutes before it, views on the left: `lower="0s", upper="5m"`.
        """
        names = as_names(on)
        for stream, side in ((self, "left"), (right, "right")):
            stream.check_columns(names, f"interval_join, {side} side, on=")
        step = IntervalJoin(
            on=names,
            lower_ms=duration_ms(lower, name="lower"),
            upper_ms=duration_ms(upper, name="upper"),
            how=how,
            grace_ms=duration_ms(grace, name="grace"),
            suffix=suffix,
        )
        joined = self.partitioned(names).then(step, right.partitioned(names), name=name)
        if late_to is not None:
            joined.output(1).to(late_to)
        return type(self)(self.graph, joined.port, names, names)
