"""The interval join record at a time, straight from the words of its semantics. Slow and obvious; shares nothing with the engine.

Events come in the order the task is given them: a row of a side with the watermark of its own partition before it, or the
task's new watermark.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    side: int
    """0 left, 1 right."""
    key: tuple[object, ...]
    time: int
    value: int
    before: int


@dataclass
class Given:
    """Pairs of values, padded values by side, values of late rows that found nothing."""

    pairs: list[tuple[int, int]] = field(default_factory=list)
    padded: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    late: list[int] = field(default_factory=list)

    def sorted(self) -> Given:
        return Given(sorted(self.pairs), (sorted(self.padded[0]), sorted(self.padded[1])), sorted(self.late))


def interval_join(events: list[Row | int], lower: int, upper: int, how: str, grace: int) -> Given:
    given = Given()
    outer = (how in ("left", "outer"), how in ("right", "outer"))
    bound = (upper, -lower)
    kept: tuple[list[Row], list[Row]] = ([], [])
    matched: set[int] = set()
    watermark = -(10**18)

    def expire() -> None:
        for side in (0, 1):
            for row in [row for row in kept[side] if watermark > row.time + bound[side] + grace]:
                kept[side].remove(row)
                if outer[side] and row.value not in matched:
                    given.padded[side].append(row.value)

    for event in events:
        if isinstance(event, int):
            watermark = max(watermark, event)
            expire()
            continue
        row, side = event, event.side
        late = row.time < row.before - grace or row.time < watermark - grace
        partners = [] if None in row.key else [other for other in kept[1 - side] if fits(row, other, lower, upper)]
        for other in partners:
            given.pairs.append((row.value, other.value) if side == 0 else (other.value, row.value))
            matched |= {row.value, other.value}
        waits = not late and None not in row.key and watermark <= row.time + bound[side] + grace
        if waits:
            kept[side].append(row)
        elif not partners:
            if outer[side]:
                given.padded[side].append(row.value)
            if late and None not in row.key:
                given.late.append(row.value)
    return given.sorted()


def fits(row: Row, other: Row, lower: int, upper: int) -> bool:
    left, right = (row, other) if row.side == 0 else (other, row)
    return left.key == right.key and left.time + lower <= right.time <= left.time + upper


def all_on_time(rows: list[Row], lower: int, upper: int, how: str) -> Given:
    """What every order of arrival must give, if all rows are on time: no watermark in it at all."""
    lefts, rights = ([row for row in rows if row.side == side] for side in (0, 1))
    pairs = [
        (left.value, right.value)
        for left in lefts
        for right in rights
        if None not in left.key and fits(left, right, lower, upper)
    ]
    paired = {value for pair in pairs for value in pair}
    alone = tuple([row.value for row in side if row.value not in paired] for side in (lefts, rights))
    kept = ("left", "outer"), ("right", "outer")
    return Given(pairs, tuple(alone[side] if how in kept[side] else [] for side in (0, 1))).sorted()  # type: ignore[arg-type]
