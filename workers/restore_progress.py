"""How far a restore is: what is told in the log, in metrics and in statistics. Values; the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

TOLD_RECORDS_MIN = 10_000
"""A shorter tail is read before anybody could read a line about it."""

TOLD_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class RestoreStatistics:
    """One store that is being restored."""

    store: str
    records_left: int
    """Offsets up to the changelog's end; with what lies between records a little more than there are."""
    records_per_s: float
    seconds_left: float | None
    """None while nothing has been read."""


@dataclass(slots=True)
class RestoreProgress:
    """Of one store of one shard."""

    shard: int
    store: str
    total: int
    in_full: bool
    """There is no local state to begin from."""
    begun_s: float
    left: int = 0
    told_s: float = 0.0

    def __post_init__(self) -> None:
        self.left, self.told_s = self.total, self.begun_s

    @property
    def told(self) -> bool:
        """Whether it is worth a line."""
        return self.total >= TOLD_RECORDS_MIN

    def statistics(self, now_s: float) -> RestoreStatistics:
        read, passed_s = self.total - self.left, now_s - self.begun_s
        rate = read / passed_s if passed_s > 0 else 0.0
        return RestoreStatistics(self.store, self.left, rate, self.left / rate if rate else None)

    def begin(self) -> str:
        how = "in full, as there is no local state" if self.in_full else "what the local state does not have"
        return f"shard {self.shard}: restoring store {self.store}: {self.total:,} records, {how}"

    def line(self, now_s: float) -> str | None:
        """What to tell now, if it is time."""
        if not self.told or not self.left or now_s - self.told_s < TOLD_EVERY_S:
            return None
        self.told_s = now_s
        now = self.statistics(now_s)
        left = "" if now.seconds_left is None else f", about {now.seconds_left:,.0f} s left"
        read = f"{self.total - self.left:,} of {self.total:,} records"
        return f"shard {self.shard}: restoring store {self.store}: {read}, {now.records_per_s:,.0f} a second{left}"

    def end(self, now_s: float) -> str:
        return f"shard {self.shard}: store {self.store} is restored, {self.total:,} records in {now_s - self.begun_s:.1f} s"
