"""Steps of a pipeline over all rows that are on time: what every order of arrival must give. No watermark, no batch, no state.

Written from semantics.md, sections 1 to 3, row by row, slow and obvious; nothing of the engine is used. Rows have the columns of
`Row`, whatever step they come from, so that any step can follow any other; `at` is the row's event time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tests.oracles.interval_join import Row as Side
from tests.oracles.interval_join import fits
from tests.oracles.windows import windows_of


class Row(NamedTuple):
    """`k` and `g` are keys, `x` a number."""

    k: str | None
    g: str | None
    x: int
    at: int


Rows = Sequence[Row]
Windows = Callable[[list[int]], Iterator[tuple[int, int, list[int]]]]
"""Of the times of one key, in order: start, end and the positions of the rows in it."""


# -- windows


def hopping(size: int, hop: int, offset: int = 0) -> Windows:
    def windows(times: list[int]) -> Iterator[tuple[int, int, list[int]]]:
        for start in sorted({start for time in times for start in windows_of(time, size, hop, offset)}):
            yield start, start + size, [n for n, time in enumerate(times) if start <= time < start + size]

    return windows


def cumulative(size: int, step: int) -> Windows:
    def windows(times: list[int]) -> Iterator[tuple[int, int, list[int]]]:
        for start, _, _ in hopping(size, size)(times):
            for end in range(start + step, start + size + 1, step):
                inside = [n for n, time in enumerate(times) if start <= time < end]
                if inside:
                    yield start, end, inside

    return windows


def session(gap: int) -> Windows:
    def windows(times: list[int]) -> Iterator[tuple[int, int, list[int]]]:
        inside: list[int] = []
        for n in sorted(range(len(times)), key=times.__getitem__):
            if inside and times[n] - times[inside[-1]] >= gap:
                yield times[inside[0]], times[inside[-1]] + gap, inside
                inside = []
            inside.append(n)
        if inside:
            yield times[inside[0]], times[inside[-1]] + gap, inside

    return windows


def gathered(rows: Rows, windows: Windows) -> list[Row]:
    """Sums of `x` by `k`; the window's start is told in `g`. A null key is a dead letter."""
    given = []
    for key in {row.k for row in rows if row.k is not None}:
        mine = [row for row in rows if row.k == key]
        for start, end, inside in windows([row.at for row in mine]):
            given.append(Row(key, str(start), sum(mine[n].x for n in inside), end - 1))
    return given


# -- two streams


def interval_join(left: Rows, right: Rows, lower: int, upper: int, how: str) -> list[Row]:
    def side(which: int, row: Row) -> Side:
        return Side(which, (row.k,), row.at, 0, 0)

    def pair(a: Row, b: Row) -> bool:
        return a.k is not None and fits(side(0, a), side(1, b), lower, upper)

    return _joined(left, right, [(n, m) for n, a in enumerate(left) for m, b in enumerate(right) if pair(a, b)], how)


def _joined(left: Rows, right: Rows, pairs: list[tuple[int, int]], how: str) -> list[Row]:
    """A pair's time is the later of the two, a padded row's its own."""
    given = [Row(left[n].k, left[n].g, left[n].x * 3 + right[m].x * 7, max(left[n].at, right[m].at)) for n, m in pairs]
    if how in ("left", "outer"):
        alone = [a for n, a in enumerate(left) if n not in {pair[0] for pair in pairs}]
        given += [Row(a.k, a.g, a.x * 3, a.at) for a in alone]
    if how in ("right", "outer"):
        alone = [b for m, b in enumerate(right) if m not in {pair[1] for pair in pairs}]
        given += [Row(b.k, b.g, b.x * 7, b.at) for b in alone]
    return given


def window_join(left: Rows, right: Rows, size: int, hop: int) -> list[Row]:
    """Pairs by window, with the window's time."""
    return [
        Row(a.k, str(start), a.x * 3 + b.x * 7, start + size - 1)
        for a in left
        for b in right
        for start in windows_of(a.at, size, hop, 0)
        if a.k is not None and a.k == b.k and start <= b.at < start + size
    ]


def asof_join(left: Rows, right: Rows) -> list[Row]:
    """Each left row with the time of the newest right row at or before it."""
    given = []
    for a in left:
        times = [b.at for b in right if a.k is not None and b.k == a.k and b.at <= a.at]
        given.append(Row(a.k, a.g, a.x + (max(times) if times else 0), a.at))
    return given


def followed_by(first: Rows, second: Rows, within: int) -> list[Row]:
    """The time of a result is that of the second row."""
    found = [(a, _times_after(a, second, within)) for a in first]
    return [Row(a.k, a.g, a.x, min(times)) for a, times in found if times]


def not_followed_by(first: Rows, second: Rows, within: int) -> list[Row]:
    return [a for a in first if not _times_after(a, second, within)]


def _times_after(a: Row, second: Rows, within: int) -> list[int]:
    return [b.at for b in second if a.k is not None and b.k == a.k and a.at < b.at <= a.at + within]


# -- one stream


def deduplicated(rows: Rows, within: int) -> list[Row]:
    """Keys and times of the earliest rows; of rows alike in both one is kept, and nobody can say which. No null keys."""
    given: list[Row] = []
    for key, at in sorted({(row.k, row.at) for row in rows if row.k is not None}):
        if not any(row.k == key and at - row.at < within for row in given):
            given.append(Row(key, "", 0, at))
    return given


def totals(rows: Rows) -> dict[Any, tuple[int, int]]:
    """By `k`: rows and their sum."""
    return {
        key: (len([row for row in rows if row.k == key]), sum(row.x for row in rows if row.k == key))
        for key in {row.k for row in rows if row.k is not None}
    }
