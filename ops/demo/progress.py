"""How far the group has come with what was sent: rates, how far behind, and how long a partition stood still.

Two things are known: when which offset was acknowledged (`Timeline`), and, every quarter of a second, what the group has
committed (`Sample`). All figures are computed from these; nothing is asked of the workers themselves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ...topics.batch import Partition

RATE_OVER_S: Final = 2.0
SHOWN_S: Final = 15.0
SAMPLES_MAX: Final = 2_000


@dataclass(slots=True)
class Timeline:
    """When the records of each partition were sent."""

    sent: dict[Partition, tuple[list[float], list[int]]] = field(default_factory=dict)
    """Times in seconds, and the offset after the last record acknowledged then; both grow."""

    def note(self, partition: Partition, at_s: float, end_offset: int) -> None:
        times, ends = self.sent.setdefault(partition, ([], []))
        times.append(at_s)
        ends.append(end_offset)

    def ends(self) -> dict[Partition, int]:
        """The offset after the last record of each partition."""
        return {partition: ends[-1] for partition, (_, ends) in self.sent.items()}

    def behind_s(self, committed: Mapping[Partition, int], now_s: float) -> float:
        """How long ago the oldest record was sent that is not worked off, of the worst partition; 0.0 when all are."""
        oldest = [
            times[row]
            for partition, (times, ends) in self.sent.items()
            if (row := bisect_right(ends, committed.get(partition, 0))) < len(ends)
        ]
        return now_s - min(oldest) if oldest else 0.0

    def sampled(self, committed: Mapping[Partition, int], now_s: float) -> Sample:
        """This moment, as far as the partitions sent to are concerned."""
        done = {partition: committed.get(partition, 0) for partition in self.sent}
        return Sample(now_s, self.ends(), done, self.behind_s(committed, now_s))


@dataclass(frozen=True, slots=True)
class Sample:
    """What was so at one moment."""

    at_s: float
    sent: Mapping[Partition, int]
    committed: Mapping[Partition, int]
    behind_s: float

    @property
    def records_sent(self) -> int:
        return sum(self.sent.values())

    @property
    def records_done(self) -> int:
        return sum(self.committed.get(partition, 0) for partition in self.sent)


def rates(samples: Sequence[Sample], over_s: float = RATE_OVER_S) -> tuple[float, float]:
    """Records a second that came in and that were worked off, over the last seconds; (0, 0) when too little is known."""
    if len(samples) < 2:
        return 0.0, 0.0
    last = samples[-1]
    first = next(sample for sample in samples if sample.at_s >= last.at_s - over_s or sample is last)
    if first is last:
        first = samples[-2]
    passed_s = max(last.at_s - first.at_s, 1e-3)
    sent, done = last.records_sent - first.records_sent, last.records_done - first.records_done
    return sent / passed_s, done / passed_s


def shown(samples: Sequence[Sample], over_s: float = SHOWN_S) -> list[Sample]:
    """Those of the last seconds."""
    return [sample for sample in samples if sample.at_s >= samples[-1].at_s - over_s] if samples else []


def moved_again_at(samples: Sequence[Sample], partitions: Collection[Partition], since_s: float) -> float | None:
    """When every one of these partitions had moved on from where it was at `since_s`; None: one has not yet."""
    before = [sample for sample in samples if sample.at_s <= since_s]
    start = before[-1].committed if before else {}
    for sample in samples:
        moved = all(sample.committed.get(partition, 0) > start.get(partition, 0) for partition in partitions)
        if sample.at_s > since_s and moved:
            return sample.at_s
    return None
