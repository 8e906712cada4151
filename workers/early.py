"""When results of windows that are still open are given: what `emit` and `every` come to.

                    no every            every
    emit="update"   at each commit      at the first commit after the watermark has passed a multiple of `every`
    emit="final"    never               the same; the final result follows when the window closes, changed or not

`every` is in event time, by the watermark of the step's input, and is looked at where a commit is made. So there is never more
than "update" gives without it, and a result that changed within one `every` is given once. Flink has triggers of both times
(`ContinuousEventTimeTrigger`; `table.exec.emit.early-fire.delay` is by processing time), Kafka Streams' `suppress(untilTimeLimit)`
is in event time. Here processing time is no choice: an operator has no clock, because a replay must decide as the first run did,
and a bounded run over a year is done in seconds. The price: while event time stands still (a quiet input, or one that holds the
watermark back) nothing is given early. `advance_when_idle` moves the time of quiet inputs.

How far results were given is not kept: what was open when a task is restored is given again, with the values it has, at the next
early results. These are upserts, so a reader of the latest values sees no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..topics.duration import duration_text


def describe_emission(grace_ms: int, emit: str, every_ms: int | None) -> Mapping[str, str]:
    """For `describe`."""
    every = {} if every_ms is None else {"every": duration_text(every_ms)}
    return {"grace": duration_text(grace_ms), "emit": emit, **every}


class EarlyResults:
    """Whether a commit gives results of open windows."""

    def __init__(self, emit: Literal["update", "final"], every_ms: int | None) -> None:
        self._every_ms = every_ms
        self._due = self.at_commits = emit == "update" and every_ms is None
        """Whether each commit does."""
        self.any = emit == "update" or every_ms is not None
        """Whether any does."""

    def advance(self, before: int, watermark: int) -> None:
        """The watermark has risen from `before`. Multiples are of 0, so that a restart changes nothing."""
        if self._every_ms is not None and before // self._every_ms < watermark // self._every_ms:
            self._due = True

    def take(self) -> bool:
        """A commit is made: whether it gives results."""
        due, self._due = self._due, self.at_commits
        return due
