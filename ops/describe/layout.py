"""Where each box of the picture stands: a layered drawing, sub-topologies as bands one under another.

Columns by longest path from the sources, the steps of a sub-topology behind all topics it reads and before those it writes, so
that its frame holds them alone. An arrow has a place of its own in each column it passes, so it goes through no box. Inside a
band what is in a column is ordered by the mean of its neighbours' places, a few sweeps to and fro (Sugiyama, Tagawa and Toda
1981). A band stands as high as those before it leave room in its columns.
A topic stands in the band of the sub-topology that reads it first, or else writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Final

from .outline import Box, Outline

SWEEPS: Final = 8
LINE: Final = 18
ROW_GAP: Final = 24
GAP: Final = 64
BAND_GAP: Final = 54
MARGIN: Final = 24
HEAD: Final = 64
CHARACTER: Final = 7.3
"""Width of a character of 13 px, about; a wider font only fills the box's margin."""

WIDTH_MIN: Final = 130
WIDTH_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Placed:
    """A box with its corner and size, in px."""

    box: Box
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Frame:
    """Around the steps of a sub-topology."""

    title: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole picture."""

    boxes: Mapping[str, Placed]
    frames: tuple[Frame, ...]
    passes: Mapping[tuple[str, str], tuple[tuple[float, float, float], ...]]
    """Of an arrow over several columns: where it goes through each of those between, from x to x at what height."""
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class _Cell:
    """The band and the column of a box, or of an arrow on its way through."""

    band: str
    column: int


def layout_of(outline: Outline) -> Layout:
    columns = _columns(outline)
    cells = {box.id: _Cell(_band(outline, box), columns[box.id]) for box in outline.boxes}
    ways = _ways(outline, cells)
    cells |= {stop: cell for way in ways.values() for stop, cell in way.items()}
    rows = _rows(cells, [link for arrow in outline.arrows for link in _links(arrow, ways)])
    xs, widths = _across(outline, columns)
    tops, height = _bands(outline, cells, rows)
    high = _box_height(outline)
    y_of = {one: tops[cell.band] + rows[one] * (high + ROW_GAP) for one, cell in cells.items()}
    placed = {
        box.id: Placed(box, xs[columns[box.id]], y_of[box.id], widths[columns[box.id]], high) for box in outline.boxes
    }
    passes = {
        arrow: tuple(
            (xs[cell.column], xs[cell.column] + widths[cell.column], y_of[stop] + high / 2)
            for stop, cell in way.items()
        )
        for arrow, way in ways.items()
    }
    width = max((one.x + one.width for one in placed.values()), default=0) + MARGIN
    return Layout(placed, tuple(_frames(outline, placed)), passes, max(width, 320), height)


def _ways(outline: Outline, cells: Mapping[str, _Cell]) -> dict[tuple[str, str], dict[str, _Cell]]:
    """Of arrows over several columns, a place in each of those between, so that they go through no box. Arrows from one box
    into one band share theirs."""
    return {
        (source, target): {
            f"{source}>{cells[target].band}@{column}": _Cell(cells[target].band, column)
            for column in range(cells[source].column + 1, cells[target].column)
        }
        for source, target in outline.arrows
    }


def _links(arrow: tuple[str, str], ways: Mapping[tuple[str, str], Mapping[str, _Cell]]) -> list[tuple[str, str]]:
    """The arrow from stop to stop."""
    return list(pairwise([arrow[0], *ways[arrow], arrow[1]]))


def _columns(outline: Outline) -> dict[str, int]:
    """Longest path from a box without inputs. An arrow that closes a circle (a topic read and written) is left out."""
    forward = _without_circles([*outline.arrows, *_around_frames(outline)])
    columns = dict.fromkeys((box.id for box in outline.boxes), 0)
    for _ in outline.boxes:  # a longest path has fewer arrows than there are boxes
        for source, target in forward:
            columns[target] = max(columns[target], columns[source] + 1)
    return columns


def _around_frames(outline: Outline) -> list[tuple[str, str]]:
    """From a topic that one step of a sub-topology reads to all its steps, and from all to one that one of them writes."""
    steps = [box for box in outline.boxes if box.kind == "step"]
    of = {box.id: box.sub for box in steps}
    before = [(source, step.id) for source, target in outline.arrows for step in steps if of.get(target) == step.sub]
    after = [(step.id, target) for source, target in outline.arrows for step in steps if of.get(source) == step.sub]
    return [(a, b) for a, b in (*before, *after) if (a in of) != (b in of)]


def _without_circles(arrows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    kept: dict[tuple[str, str], None] = {}
    for source, target in arrows:
        reached, left = set(), [target]
        while left:
            here = left.pop()
            if here not in reached:
                reached.add(here)
                left += [after for before, after in kept if before == here]
        if source not in reached:
            kept[source, target] = None
    return list(kept)


def _band(outline: Outline, box: Box) -> str:
    if box.kind == "step":
        return box.sub
    readers = [outline.box(target).sub for target in outline.after(box.id) if outline.box(target).kind == "step"]
    return min(readers, key=[name for name, _ in outline.subs].index) if readers else box.sub


def _rows(cells: Mapping[str, _Cell], links: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The place of each among those of its cell."""
    held: dict[_Cell, list[str]] = {}
    for one, cell in cells.items():
        held.setdefault(cell, []).append(one)
    near: dict[str, list[str]] = {one: [] for one in cells}
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    rows = {one: number for ids in held.values() for number, one in enumerate(ids)}
    for sweep in range(SWEEPS):
        for cell in sorted(held, key=lambda one: one.column, reverse=bool(sweep % 2)):
            held[cell].sort(key=lambda one: fmean([rows[other] for other in near[one]] or [rows[one]]))
            rows |= {one: number for number, one in enumerate(held[cell])}
    return rows


def _across(outline: Outline, columns: Mapping[str, int]) -> tuple[list[float], list[float]]:
    """Left edge and width of each column."""
    widths = [float(WIDTH_MIN)] * (max(columns.values(), default=0) + 1)
    for box in outline.boxes:
        wanted = CHARACTER * max(map(len, (box.name, *box.lines))) + 28
        widths[columns[box.id]] = min(WIDTH_MAX, max(widths[columns[box.id]], wanted))
    xs, x = [], float(MARGIN)
    for width in widths:
        xs.append(x)
        x += width + GAP
    return xs, widths


def _box_height(outline: Outline) -> int:
    """One height for all boxes, with room for the most lines."""
    return 16 + LINE * (1 + max((len(box.lines) for box in outline.boxes), default=1))


def _bands(outline: Outline, cells: Mapping[str, _Cell], rows: Mapping[str, int]) -> tuple[dict[str, float], float]:
    """Top of each band, and the height of the picture."""
    tops: dict[str, float] = {}
    used = [float(HEAD)] * (max((cell.column for cell in cells.values()), default=0) + 1)
    for name, _ in outline.subs:
        held = [one for one, cell in cells.items() if cell.band == name]
        columns = [cells[one].column for one in held] or [0]
        taken = slice(min(columns), max(columns) + 1)
        top = max(used[taken])
        tops[name] = top + 18
        count = max((rows[one] for one in held), default=0) + 1
        bottom = top + count * (_box_height(outline) + ROW_GAP) + BAND_GAP - 18
        used[taken] = [bottom] * len(used[taken])
    return tops, max(used)


def _frames(outline: Outline, placed: Mapping[str, Placed]) -> list[Frame]:
    frames = []
    for name, tasks in outline.subs:
        inside = [one for one in placed.values() if one.box.kind == "step" and one.box.sub == name]
        if inside:
            left, top = min(one.x for one in inside) - 14, min(one.y for one in inside) - 26
            right, bottom = (
                max(one.x + one.width for one in inside) + 14,
                max(one.y + one.height for one in inside) + 14,
            )
            title = f"sub-topology {name}, {tasks} task{'' if tasks == 1 else 's'}"
            frames.append(Frame(title, left, top, right - left, bottom - top))
    return frames
