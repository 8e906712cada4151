"""The demo as data: seven steps, each waiting, running, done or failed, each ended by a figure that was measured in this run.

    waiting -begin-> running -done(figure)-> done
                             -failed(reason)-> failed

What is done in a step stands in `director.py`, how it looks in `view.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from ...workers.errors import InvariantError

State = Literal["waiting", "running", "done", "failed"]

KAFKA: Final = 1
WORKERS: Final = 2
DOCUMENTS: Final = 3
EVENTS: Final = 4
ANSWERS: Final = 5
KILL: Final = 6
RECOUNT: Final = 7


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the story."""

    number: int
    title: str
    state: State = "waiting"
    figure: str = ""
    """What was measured, or what went wrong."""


@dataclass(frozen=True, slots=True)
class Story:
    """All seven; the methods give the story as it is after a change."""

    steps: tuple[Step, ...]

    def step(self, number: int) -> Step:
        return self.steps[number - 1]

    def begin(self, number: int, title: str | None = None) -> Story:
        """`title`: where what is known by now makes a better one. Raises InvariantError out of order."""
        before = [step for step in self.steps if step.number < number]
        if self.step(number).state != "waiting" or any(step.state != "done" for step in before):
            raise InvariantError(f"step {number} cannot begin: {[step.state for step in self.steps]}")
        return self._with(replace(self.step(number), state="running", title=title or self.step(number).title))

    def done(self, figure: str) -> Story:
        """The running step has ended well. Raises InvariantError where none runs."""
        running = self.running
        if running is None:
            raise InvariantError(f"no step is running, so none can be done: {figure}")
        return self._with(replace(running, state="done", figure=figure))

    def failed(self, reason: str) -> Story:
        """The running step has ended badly; before the first and after the last there is nothing to be marked."""
        running = self.running
        return self if running is None else self._with(replace(running, state="failed", figure=reason))

    @property
    def running(self) -> Step | None:
        return next((step for step in self.steps if step.state == "running"), None)

    @property
    def is_told(self) -> bool:
        """Whether every step came out right."""
        return all(step.state == "done" for step in self.steps)

    def _with(self, changed: Step) -> Story:
        return Story(tuple(changed if step.number == changed.number else step for step in self.steps))


def the_story(*, own_kafka: bool, workers: int = 2, partitions: int = 4) -> Story:
    """As it is before anything has happened."""
    titles: Sequence[str] = (
        "Start Apache Kafka on this machine, without Docker" if own_kafka else "Find the Kafka that was named",
        f"{workers} workers join one group and share {partitions} partitions",
        "Read a folder of documents into the index",
        "Orders and views arrive; sales per product every 10 s",
        "Ask, change one document, delete another, ask again",
        "Kill a worker with kill -9, and start it again",
        "Recount every result from what was sent",
    )
    return Story(tuple(Step(number, title) for number, title in enumerate(titles, 1)))
