"""What a run was like: the verdict, and the figures of its course. All times in seconds since the run began."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.scenarios.judge import Verdict

BIN_S = 0.5
SHOWN_STALL_S = 1.0
"""A partition without output for longer is drawn as stalled."""


@dataclass(frozen=True)
class Mark:
    """Something that was done to the system. `ends_s`: when it was over, of what lasts (a pause, a broker away)."""

    at_s: float
    kind: str
    detail: str = ""
    ends_s: float | None = None


@dataclass(frozen=True)
class Kill:
    """`kill -9` of a worker."""

    at_s: float
    worker: int
    owned: frozenset[int]
    """Partitions it worked on."""
    visible: Mapping[int, int]
    """By partition, where what was visible ended just after."""
    restarted: bool = True
    """At once, as a supervisor does; else other workers take over when its session has timed out."""


@dataclass(frozen=True)
class Seen:
    """A committed output: partition, offset, and when a read_committed reader saw it."""

    partition: int
    offset: int
    at_s: float


@dataclass(frozen=True)
class Outcome:
    """A run that has ended."""

    name: str
    records: int
    verdict: Verdict
    marks: Sequence[Mark] = ()
    kills: Sequence[Kill] = ()
    recoveries_s: Sequence[float] = ()
    """From each kill to the first new committed output, by partition; the worker was restarted at once."""
    failovers_s: Sequence[float] = ()
    """The same where others had to take over."""
    stalls: Sequence[tuple[float, float]] = ()
    """From, to: some partition gave nothing for more than a second."""
    throughput: Sequence[int] = ()
    """Outputs a bin of `BIN_S`."""
    notes: Sequence[str] = field(default=())
    logs: str = field(default="", repr=False)

    @property
    def clean(self) -> bool:
        return self.verdict.clean

    @property
    def longest_stall_s(self) -> float:
        return max((end - start for start, end in self.stalls), default=0.0)

    def __str__(self) -> str:
        return f"{self.name}: {self.records} records, {len(self.kills)} kills, {self.verdict}\n{self.logs}"


def recoveries(kills: Iterable[Kill], seen: Sequence[Seen]) -> list[float]:
    """For each kill and each of the dead worker's partitions: how long until something newer was committed and seen."""
    by_partition: dict[int, list[Seen]] = {}
    for row in seen:
        by_partition.setdefault(row.partition, []).append(row)
    found = []
    for kill in kills:
        for partition in kill.owned:
            rows, end = by_partition.get(partition, ()), kill.visible[partition]
            newer = (row.at_s for row in rows if row.offset >= end and row.at_s >= kill.at_s)
            if (first := next(newer, None)) is not None:
                found.append(first - kill.at_s)
    return found


def stalls(seen: Sequence[Seen], longer_than_s: float = SHOWN_STALL_S) -> list[tuple[float, float]]:
    """Gaps between two outputs of one partition, in the order of their beginnings; they may overlap."""
    last: dict[int, float] = {}
    gaps = []
    for row in seen:
        before = last.get(row.partition, row.at_s)
        if row.at_s - before > longer_than_s:
            gaps.append((before, row.at_s))
        last[row.partition] = row.at_s
    return sorted(gaps)


def throughput(seen: Sequence[Seen]) -> list[int]:
    bins = [0] * (int(seen[-1].at_s / BIN_S) + 1 if seen else 0)
    for row in seen:
        bins[int(row.at_s / BIN_S)] += 1
    return bins


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest rank."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
