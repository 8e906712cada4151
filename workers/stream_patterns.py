"""The fluent face of patterns in time. What each promises is said in the step it adds (`operators/`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..topics.duration import Duration, duration_ms
from ..topics.topic import Topic
from .operator import Step
from .operators.deduplicate import Deduplicate, Keep
from .operators.followed_by import FollowedBy
from .operators.not_followed_by import NotFollowedBy
from .stream_base import Columns, StreamBase, as_names


@dataclass(frozen=True, slots=True)
class StreamPatterns(StreamBase):
    """Rows that come again, that are followed by others, that are not."""

    def deduplicate(
        self,
        *,
        by: Columns,
        within: Duration,
        keep: Keep = "first",
        grace: Duration = "0s",
        late_to: str | Topic | None = None,
        name: str | None = None,
    ) -> Self:
        """Drops rows less than `within` in event time from a row of the same `by` columns that was kept.

        `keep`: "first" by arrival, given at once; "earliest" by event time, given when the watermark is `grace` past it.
        `late_to`: a topic for rows more than `grace` behind the watermark, which cannot be judged any more.
        """
        names = as_names(by)
        self.check_columns(names, "deduplicate, by=")
        step = Deduplicate(names, duration_ms(within, name="within"), keep, duration_ms(grace, name="grace"))
        stream = self.partitioned(names)
        kept = stream.then(step, name=name, keep_partitioning=True)
        if late_to is not None:
            kept.output(1).to(late_to)
        return kept

    def followed_by(
        self,
        second: StreamBase,
        *,
        by: Columns,
        within: Duration,
        grace: Duration = "0s",
        suffix: str = "_next",
        late_to: str | Topic | None = None,
        name: str | None = None,
    ) -> Self:
        """Each row with the next row of `second` of the same `by` columns, if it is later by at most `within`.

        Given when the watermark is `grace` past the second row; its time is that row's.
        """
        within_ms, grace_ms = duration_ms(within, name="within"), duration_ms(grace, name="grace")
        step = FollowedBy(as_names(by), within_ms, grace_ms, suffix)
        return self._followed(step, second, step.by, late_to, name)

    def not_followed_by(
        self,
        second: StreamBase,
        *,
        by: Columns,
        within: Duration,
        grace: Duration = "0s",
        suffix: str = "_next",
        late_to: str | Topic | None = None,
        name: str | None = None,
    ) -> Self:
        """The rows after which no row of `second` of the same `by` columns came within `within`.

        Given when the watermark is `within` and `grace` past them. `suffix`: of columns in `late_to`.
        """
        within_ms, grace_ms = duration_ms(within, name="within"), duration_ms(grace, name="grace")
        step = NotFollowedBy(as_names(by), within_ms, grace_ms, suffix)
        return self._followed(step, second, step.by, late_to, name)

    def _followed(
        self, step: Step, second: StreamBase, by: tuple[str, ...], late_to: str | Topic | None, name: str | None
    ) -> Self:
        for stream, which in ((self, "first"), (second, "second")):
            stream.check_columns(by, f"{step.kind}, {which} stream, by=")
        found = self.partitioned(by).then(step, second.partitioned(by), name=name)
        if late_to is not None:
            found.output(1).to(late_to)
        return type(self)(self.graph, found.port, by, by)
