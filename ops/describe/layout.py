"""Where each box of the picture stands: a layered drawing, sub-topologies as bands one under another.

Columns by longest path from the sources; inside a band the boxes of a column are ordered by the mean of their neighbours'
places, a few sweeps to and fro (Sugiyama, Tagawa and Toda 1981). Bands are disjoint, so that their frames never overlap.
A topic stands in the band of the sub-topology that reads it first, or else writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    width: float
    height: float


def layout_of(outline: Outline) -> Layout:
    columns = _columns(outline)
    rows = _rows(outline, columns)
    xs, widths = _across(outline, columns)
    tops, height = _bands(outline, columns, rows)
    placed = {
        box.id: Placed(
            box,
            xs[columns[box.id]],
            tops[_band(outline, box)] + rows[box.id] * (_box_height(outline) + ROW_GAP),
            widths[columns[box.id]],
            _box_height(outline),
        )
        for box in outline.boxes
    }
    width = max((one.x + one.width for one in placed.values()), default=0) + MARGIN
    return Layout(placed, tuple(_frames(outline, placed)), max(width, 320), height)


def _columns(outline: Outline) -> dict[str, int]:
    """Longest path from a box without inputs. An arrow that closes a circle (a topic read and written) is left out."""
    forward = _without_circles(outline)
    columns = dict.fromkeys((box.id for box in outline.boxes), 0)
    for _ in outline.boxes:  # a longest path has fewer arrows than there are boxes
        for source, target in forward:
            columns[target] = max(columns[target], columns[source] + 1)
    return columns


def _without_circles(outline: Outline) -> list[tuple[str, str]]:
    kept: list[tuple[str, str]] = []
    for source, target in outline.arrows:
        reached, left = set(), [target]
        while left:
            here = left.pop()
            if here not in reached:
                reached.add(here)
                left += [after for before, after in kept if before == here]
        if source not in reached:
            kept.append((source, target))
    return kept


def _band(outline: Outline, box: Box) -> str:
    if box.kind == "step":
        return box.sub
    readers = [outline.box(target).sub for target in outline.after(box.id) if outline.box(target).kind == "step"]
    return min(readers, key=[name for name, _ in outline.subs].index) if readers else box.sub


def _rows(outline: Outline, columns: Mapping[str, int]) -> dict[str, int]:
    """A box's place among those of its band and column."""
    cells: dict[tuple[str, int], list[str]] = {}
    for box in outline.boxes:
        cells.setdefault((_band(outline, box), columns[box.id]), []).append(box.id)
    rows = {one: number for ids in cells.values() for number, one in enumerate(ids)}
    for sweep in range(SWEEPS):
        for key in sorted(cells, key=lambda cell: cell[1], reverse=bool(sweep % 2)):
            cells[key].sort(key=lambda one: _middle(outline, one, rows))
            rows |= {one: number for number, one in enumerate(cells[key])}
    return rows


def _middle(outline: Outline, one: str, rows: Mapping[str, int]) -> float:
    near = [rows[a if b == one else b] for a, b in outline.arrows if one in {a, b}]
    return sum(near) / len(near) if near else rows[one]


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


def _bands(outline: Outline, columns: Mapping[str, int], rows: Mapping[str, int]) -> tuple[dict[str, float], float]:
    """Top of each band, and the height of the picture."""
    tops, y = {}, float(HEAD)
    for name, _ in outline.subs:
        held = [rows[box.id] for box in outline.boxes if _band(outline, box) == name]
        tops[name] = y + 18
        y += (max(held, default=0) + 1) * (_box_height(outline) + ROW_GAP) + BAND_GAP - 18
    return tops, y


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
