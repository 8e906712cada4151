"""The as-of join record at a time, straight from the words of its semantics. Slow and obvious; shares nothing with the engine.

Events come in the order the task is given them: a row of a side with the watermark of its own partition before it, or the
task's new watermark.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    side: int
    """0 left, 1 right."""
    key: str | None
    time: int
    value: int
    before: int
    deleted: bool = False


@dataclass(frozen=True)
class Rules:
    direction: str
    tolerance: int | None
    how: str
    grace: int


@dataclass
class Given:
    """(left value, right value or None), values of late rows."""

    rows: list[tuple[int, int | None]] = field(default_factory=list)
    late: list[int] = field(default_factory=list)

    def sorted(self) -> Given:
        return Given(sorted(self.rows, key=str), sorted(self.late))


def match(left: Row, rights: list[Row], rules: Rules) -> Row | None:
    """`rights`: in order of arrival."""
    if left.key is None:
        return None
    newest_of_time = {right.time: right for right in rights if right.key == left.key}
    before = [right for time, right in newest_of_time.items() if time <= left.time]
    after = [right for time, right in newest_of_time.items() if time >= left.time and not right.deleted]
    backward = max(before, key=lambda right: right.time, default=None)
    forward = min(after, key=lambda right: right.time, default=None)
    if backward is not None and (backward.deleted or not near(left, backward, rules)):
        backward = None
    if forward is not None and not near(left, forward, rules):
        forward = None
    if rules.direction == "backward":
        return backward
    if rules.direction == "forward" or backward is None or forward is None:
        return forward if rules.direction == "forward" or backward is None else backward
    return forward if forward.time - left.time <= left.time - backward.time else backward


def near(left: Row, right: Row, rules: Rules) -> bool:
    return rules.tolerance is None or abs(left.time - right.time) <= rules.tolerance


def asof_join(events: list[Row | int], rules: Rules) -> Given:
    given = Given()
    waiting: list[Row] = []
    rights: list[Row] = []
    watermark = -(10**18)

    def give(left: Row, right: Row | None) -> None:
        if right is not None or rules.how == "left":
            given.rows.append((left.value, None if right is None else right.value))

    def decided(left: Row, horizon: int) -> bool:
        if rules.direction == "backward":
            return horizon > left.time
        assert rules.tolerance is not None
        settled = [right for right in rights if right.time < horizon]
        ahead = match(left, settled, Rules("forward", rules.tolerance, rules.how, rules.grace))
        return ahead is not None or horizon > left.time + rules.tolerance

    for event in events:
        if isinstance(event, int):
            watermark = max(watermark, event)
            horizon = watermark - rules.grace
            settled = [right for right in rights if right.time < horizon]
            for left in [left for left in waiting if decided(left, horizon)]:
                waiting.remove(left)
                give(left, match(left, settled, rules))
            if rules.direction == "backward":
                rights = forgotten(rights, horizon)
            continue
        late = event.time < max(event.before, watermark) - rules.grace
        if late and not event.deleted:
            given.late.append(event.value)
        if event.side == 1:
            rights.append(event)
        elif late:
            give(event, None)
        else:
            waiting.append(event)
    return given.sorted()


def forgotten(rights: list[Row], horizon: int) -> list[Row]:
    """A key whose newest row below the horizon is a tombstone has nothing below it any more."""
    gone = set()
    for key in {right.key for right in rights}:
        below = [right for right in rights if right.key == key and right.time < horizon]
        newest = max(reversed(below), key=lambda right: right.time, default=None)
        if newest is not None and newest.deleted:
            gone |= {id(right) for right in below}
    return [right for right in rights if id(right) not in gone]


def all_on_time(rows: list[Row], rules: Rules) -> Given:
    """What every order of arrival must give, if all rows are on time: no watermark in it at all."""
    rights = [row for row in rows if row.side == 1]
    given = Given()
    for left in rows:
        if left.side == 0:
            right = match(left, rights, rules)
            if right is not None or rules.how == "left":
                given.rows.append((left.value, None if right is None else right.value))
    return given.sorted()
