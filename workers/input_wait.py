"""Whether records wait for those of another input of their task (semantics.md section 1, "several inputs").

A task takes the oldest of its inputs' next records first. For that it must see them: records of one input wait while another one has
some left that were not fetched yet, up to a limit, since its broker may be out of reach. An input that is caught up is not waited
for, so live records are never held up. (Kafka Streams: `max.task.idle.ms` = 0, with a limit.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..topics.batch import Fetch, Partition


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """A task's inputs, and which of them are not caught up, as far as was fetched."""

    all: frozenset[Partition]
    behind: frozenset[Partition]


@dataclass(slots=True)
class InputWait:
    """Of one shard."""

    limit_ms: int
    """0: nothing waits."""
    tasks: tuple[TaskInputs, ...] = ()
    """Those that have several inputs, of which some are behind."""
    since_ms: int | None = None
    given_up: frozenset[Partition] = frozenset()
    """Waited for in vain: not again before they have records."""

    def begin(self) -> None:
        """The shard is taken: nothing is known of its inputs."""
        self.tasks, self.since_ms, self.given_up = (), None, frozenset()

    def arrived(self, fetches: Iterable[Fetch]) -> None:
        self.given_up -= {fetch.partition for fetch in fetches}

    def missing(self, fetches: Sequence[Fetch]) -> frozenset[Partition]:
        """What these records wait for."""
        if not self.limit_ms:
            return frozenset()
        there = frozenset(fetch.partition for fetch in fetches)
        return frozenset().union(*(self._missing(task, there) for task in self.tasks))

    def split(self, fetches: Sequence[Fetch], now_ms: int) -> tuple[list[Fetch], list[Fetch]]:
        """Those to be worked on now, and those that wait."""
        there = frozenset(fetch.partition for fetch in fetches)
        missing = self.missing(fetches)
        if not missing:
            self.since_ms = None
            return list(fetches), []
        self.since_ms = now_ms if self.since_ms is None else self.since_ms
        if now_ms - self.since_ms >= self.limit_ms:
            self.since_ms, self.given_up = None, self.given_up | missing
            return list(fetches), []
        held = frozenset().union(*(task.all for task in self.tasks if self._missing(task, there)))
        return [one for one in fetches if one.partition not in held], [one for one in fetches if one.partition in held]

    def _missing(self, task: TaskInputs, there: frozenset[Partition]) -> frozenset[Partition]:
        return task.behind - there - self.given_up if task.all & there else frozenset()
