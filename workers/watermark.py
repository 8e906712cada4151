"""Event time of one input partition, and of the task that reads several (semantics.md section 1).

    partition:  watermark = largest event time seen - out_of_order        (a topic of others)
                watermark = smallest over the upstream writers             (a repartition topic)
    task:       watermark = smallest over its partitions that are not idle, never moving back

Idle is decided from being *caught up* for `idle_after`, never from silence alone. No clock is read here: `now_ms` is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..topics.batch import MIN_TIME
from ..topics.control import ControlRecord


@dataclass(slots=True)
class InputTime:
    """One input partition's event time."""

    idle_after_ms: int | None
    writers: dict[str, int] | None = None
    """Of a repartition topic: `<sub-topology>/<shard>` -> that writer's watermark. None: a topic of others."""
    idle_writers: set[str] = field(default_factory=set)
    watermark: int = MIN_TIME
    idle: bool = False
    caught_up_since_ms: int | None = None
    slept: bool = False
    """Idle when it was committed. It is so again once a fetch has shown that it is still caught up."""
    held: bool = False
    """Not read for now, so it is not known whether it is still caught up."""

    def saw_rows(self, watermark: int) -> None:
        """Rows were read; `watermark` is what decoding them made of it."""
        if self.writers is None:
            self.watermark = max(self.watermark, watermark)

    def saw_control(self, records: Iterable[ControlRecord]) -> None:
        """Control records of upstream writers; a writer's watermark never moves back. With all of them idle it is the smallest
        of all: it moves on then only where they follow the clock."""
        if self.writers is None:
            return
        for record in records:
            name = f"{record.writer}/{record.shard}"
            if name in self.writers:
                self.writers[name] = max(self.writers[name], record.watermark)
                (self.idle_writers.add if record.idle else self.idle_writers.discard)(name)
        active = [watermark for name, watermark in self.writers.items() if name not in self.idle_writers]
        if active:
            self.idle = False
        self.watermark = max(self.watermark, min(active or self.writers.values(), default=MIN_TIME))

    def position_moved(self, caught_up: bool, had_rows: bool, now_ms: int) -> None:
        """After every fetch: whether anything was left to read."""
        if had_rows:
            self.idle = False
        if not caught_up or had_rows:
            self.caught_up_since_ms = None
        if caught_up and self.caught_up_since_ms is None:
            self.caught_up_since_ms = now_ms
        if self.slept:
            self.slept, self.idle = False, caught_up and not had_rows

    def caught_up_for(self, idle_after_ms: int, now_ms: int) -> bool:
        return self.caught_up_since_ms is not None and now_ms - self.caught_up_since_ms >= idle_after_ms

    def tick(self, now_ms: int) -> bool:
        """Becomes idle when it is time; whether that changed."""
        if self.held:
            self.idle = False
            if self.caught_up_since_ms is not None:
                self.caught_up_since_ms = now_ms
        if self.idle or self.held or self.idle_after_ms is None:
            return False
        if self.writers is not None:
            self.idle = self.caught_up_since_ms is not None and len(self.idle_writers) == len(self.writers)
        else:
            self.idle = self.caught_up_for(self.idle_after_ms, now_ms)
        return self.idle

    def saved(self) -> dict[str, Any]:
        """As it is committed beside the offset."""
        saved: dict[str, Any] = {"w": self.watermark}
        if self.idle or self.slept:
            saved["i"] = 1
        if self.writers:
            saved["v"] = [self.writers[name] for name in sorted(self.writers)]
            saved["vi"] = [number for number, name in enumerate(sorted(self.writers)) if name in self.idle_writers]
        return saved

    def load(self, saved: Mapping[str, Any]) -> None:
        """What a predecessor committed. Writers of another number (the topology changed) start anew."""
        self.watermark = max(self.watermark, int(saved.get("w", MIN_TIME)))
        self.slept = self.writers is None and bool(saved.get("i", 0))
        vector: Sequence[int] = saved.get("v", ())
        if self.writers is not None and len(vector) == len(self.writers):
            names = sorted(self.writers)
            self.writers.update(zip(names, vector, strict=True))
            self.idle_writers = {names[number] for number in saved.get("vi", ())}


def smallest(inputs: Iterable[InputTime], before: int) -> int:
    """The task's watermark over its inputs, given what it was: idle ones do not count, and it never moves back."""
    active = [time.watermark for time in inputs if not time.idle]
    return max(before, min(active)) if active else before
