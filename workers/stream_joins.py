"""The fluent face of the joins. What each promises is said in the step it adds (`operators/`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..topics.duration import Duration, duration_ms
from ..topics.topic import Topic
from .operator import Step
from .operators.asof_join import AsofHow, AsofJoin, Direction
from .operators.interval_join import How, IntervalJoin
from .operators.window_join import WindowJoin
from .stream_base import Columns, StreamBase, as_names
from .window import Window


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
        names = self._keys(right, on, "interval_join")
        step = IntervalJoin(
            on=names,
            lower_ms=duration_ms(lower, name="lower"),
            upper_ms=duration_ms(upper, name="upper"),
            how=how,
            grace_ms=duration_ms(grace, name="grace"),
            suffix=suffix,
        )
        return self._joined(right, names, step, late_to, name)

    def asof_join(
        self,
        right: StreamBase,
        *,
        on: Columns,
        direction: Direction = "backward",
        tolerance: Duration | None = None,
        how: AsofHow = "left",
        grace: Duration = "0s",
        suffix: str = "_right",
        ttl: Duration | None = None,
        late_to: str | Topic | None = None,
        name: str | None = None,
    ) -> Self:
        """Each row with the one row of `right` of equal `on` columns that is nearest in time: a trade with its quote.

        `direction`: "backward" the last at or before it, "forward" the first at or after it, "nearest" either.
        `tolerance`: at most so far apart, inclusive; must be said for "forward" and "nearest".
        `how`: "left" gives rows without a match too, once it is certain that they have none.
        `ttl`: "backward" forgets a right row when it is so old; without it (and a tolerance) the newest of each key is kept.
        """
        names = self._keys(right, on, "asof_join")
        step = AsofJoin(
            on=names,
            direction=direction,
            tolerance_ms=None if tolerance is None else duration_ms(tolerance, name="tolerance"),
            how=how,
            grace_ms=duration_ms(grace, name="grace"),
            suffix=suffix,
            ttl_ms=None if ttl is None else duration_ms(ttl, name="ttl"),
        )
        return self._joined(right, names, step, late_to, name)

    def window_join(
        self,
        right: StreamBase,
        window: Window,
        *,
        on: Columns,
        how: How = "inner",
        grace: Duration = "0s",
        suffix: str = "_right",
        late_to: str | Topic | None = None,
        name: str | None = None,
    ) -> Self:
        """All pairs of rows of equal `on` columns in one window: tumbling, hopping, or a session of both sides together.

        Given when the window closes, `grace` after its end: `on`, `window_start`, `window_end`, then the columns of both.
        """
        names = self._keys(right, on, "window_join")
        step = WindowJoin(window=window, on=names, how=how, grace_ms=duration_ms(grace, name="grace"), suffix=suffix)
        return self._joined(right, names, step, late_to, name)

    def _keys(self, right: StreamBase, on: Columns, kind: str) -> tuple[str, ...]:
        names = as_names(on)
        for stream, side in ((self, "left"), (right, "right")):
            stream.check_columns(names, f"{kind}, {side} side, on=")
        return names

    def _joined(
        self, right: StreamBase, names: tuple[str, ...], step: Step, late_to: str | Topic | None, name: str | None
    ) -> Self:
        joined = self.partitioned(names).then(step, right.partitioned(names), name=name)
        if late_to is not None:
            joined.output(1).to(late_to)
        return type(self)(self.graph, joined.port, names, names)
