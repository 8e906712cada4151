"""Where the demo stands: the one thing that changes while it runs, and the snapshots the view is drawn from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .progress import SAMPLES_MAX, Sample
from .snapshot import Snapshot, Talk, WorkerSeen, live_of
from .story import Step, Story


@dataclass
class Stage:
    """`tell` hears of each step that has ended, and of each line of talk."""

    story: Story
    tell: Callable[[Step | Talk], None]
    began_s: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)
    workers: tuple[WorkerSeen, ...] = ()
    talk: tuple[Talk, ...] = ()
    note: str = ""
    ending: tuple[tuple[str, str, str], ...] = ()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began_s

    def begin(self, number: int, title: str | None = None) -> None:
        self.story = self.story.begin(number, title)

    def done(self, figure: str) -> None:
        running = self.story.running
        self.story = self.story.done(figure)
        if running is not None:
            self.tell(self.story.step(running.number))

    def failed(self, reason: str) -> None:
        running = self.story.running
        self.story = self.story.failed(reason)
        if running is not None:
            self.tell(self.story.step(running.number))

    def say(self, *lines: Talk) -> None:
        self.talk = (*self.talk, *lines)
        for line in lines:
            self.tell(line)

    def sampled(self, sample: Sample) -> None:
        self.samples.append(sample)
        del self.samples[:-SAMPLES_MAX]

    def snapshot(self) -> Snapshot:
        """Safe to be taken from the thread that draws."""
        return Snapshot(
            self.story,
            self.elapsed_s,
            live_of(list(self.samples)),
            self.workers,
            self.note,
            self.talk,
            self.ending,
        )
