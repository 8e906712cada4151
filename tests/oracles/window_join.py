"""The window join record at a time, straight from the words of its semantics. Slow and obvious; shares nothing with the engine.

Events come in the order the task is given them: a row of a side with the watermark of its own partition before it, or the
task's new watermark. Windows are `(size, hop, offset)`, sessions a gap.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Grid = tuple[int, int, int]
Result = tuple[int, int, int | None, int | None]
"""Window start and end, left value, right value."""


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
    window: Grid | int
    how: str
    grace: int


@dataclass
class Given:
    """`crowded`: two open sessions of a key came less than the gap apart, for a row was beyond grace."""

    results: list[Result] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    crowded: bool = False

    def sorted(self) -> Given:
        return Given(sorted(self.results, key=str), sorted(self.late), self.crowded)


def starts(time: int, grid: Grid) -> list[int]:
    """Of every window with `start <= time < start + size`, `start = offset + n * hop`."""
    size, hop, offset = grid
    n = (time - offset) // hop
    found = []
    while offset + n * hop + size > time:
        found.append(offset + n * hop)
        n -= 1
    return found


def joined(rows: list[Row], start: int, end: int, how: str) -> list[Result]:
    """What a window with these rows gives."""
    lefts, rights = ([row for row in rows if row.side == side] for side in (0, 1))
    pairs = [(a, b) for a in lefts for b in rights if a.key is not None and a.key == b.key]
    given: list[Result] = [(start, end, a.value, b.value) for a, b in pairs]
    if how in ("left", "outer"):
        given += [(start, end, a.value, None) for a in lefts if a not in [pair[0] for pair in pairs]]
    if how in ("right", "outer"):
        given += [(start, end, None, b.value) for b in rights if b not in [pair[1] for pair in pairs]]
    return given


def window_join(events: list[Row | int], rules: Rules) -> Given:
    return (
        _sessions(events, rules, rules.window) if isinstance(rules.window, int) else _grid(events, rules, rules.window)
    )


def _grid(events: list[Row | int], rules: Rules, grid: Grid) -> Given:
    given = Given()
    windows: dict[int, list[Row]] = {}
    watermark = -(10**18)
    for event in events:
        if isinstance(event, int):
            watermark = max(watermark, event)
            for start in [start for start in windows if watermark >= start + grid[0] + rules.grace]:
                given.results += joined(windows.pop(start), start, start + grid[0], rules.how)
            continue
        all_starts = starts(event.time, grid)
        own = max(event.before, watermark)
        in_time = [start for start in all_starts if own < start + grid[0] + rules.grace]
        if all_starts and not in_time and wanted(event, rules):
            given.late.append(event.value)
        for start in in_time:
            windows.setdefault(start, []).append(event)
    return given.sorted()


def wanted(row: Row, rules: Rules) -> bool:
    """Rows with a null key are nothing to an inner side."""
    return row.key is not None or rules.how in (("left", "outer"), ("right", "outer"))[row.side]


@dataclass(eq=False)
class _Session:
    rows: list[Row]

    @property
    def first(self) -> int:
        return min(row.time for row in self.rows)

    @property
    def last(self) -> int:
        return max(row.time for row in self.rows)


def _sessions(events: list[Row | int], rules: Rules, gap: int) -> Given:
    given = Given()
    sessions: dict[object, list[_Session]] = {}
    watermark = -(10**18)
    for event in events:
        if isinstance(event, int):
            watermark = max(watermark, event)
            for key, of_key in sessions.items():
                due = [one for one in of_key if watermark >= one.last + gap + rules.grace]
                sessions[key] = [one for one in of_key if one not in due]
                for one in due:
                    given.results += joined(one.rows, one.first, one.last + gap, rules.how)
            continue
        key = event.key if event.key is not None else ("null", event.value)
        own = max(event.before, watermark)
        of_key = sessions.setdefault(key, [])
        near = [
            one
            for one in of_key
            if one.first - gap < event.time < one.last + gap and own < one.last + gap + rules.grace
        ]
        merged = _Session([event, *(row for one in near for row in one.rows)])
        if own >= merged.last + gap + rules.grace:
            if wanted(event, rules):
                given.late.append(event.value)
            continue
        sessions[key] = [one for one in of_key if one not in near] + [merged]
        others = [one for one in sessions[key] if one is not merged]
        given.crowded |= any(one.first - merged.last < gap and merged.first - one.last < gap for one in others)
    return given.sorted()


def all_on_time(rows: list[Row], rules: Rules) -> list[Result]:
    """What every order of arrival must give, if all rows are on time: no watermark in it at all."""
    given: list[Result] = []
    if isinstance(rules.window, int):
        for start, end, inside in _all_sessions(rows, rules.window):
            given += joined(inside, start, end, rules.how)
    else:
        size = rules.window[0]
        for start in {start for row in rows for start in starts(row.time, rules.window)}:
            given += joined([row for row in rows if start <= row.time < start + size], start, start + size, rules.how)
    return sorted(given, key=str)


def _all_sessions(rows: list[Row], gap: int) -> list[tuple[int, int, list[Row]]]:
    found = [(row.time, row.time + gap, [row]) for row in rows if row.key is None]
    for key in {row.key for row in rows} - {None}:
        session: list[Row] = []
        for row in sorted((row for row in rows if row.key == key), key=lambda row: row.time):
            if session and row.time - session[-1].time >= gap:
                found.append((session[0].time, session[-1].time + gap, session))
                session = []
            session.append(row)
        found.append((session[0].time, session[-1].time + gap, session))
    return found
