"""Accuracy against cost, a point a configuration, as one SVG file: no library, no script, readable on light and on dark ground.

The line joins those that no other beats in both (the Pareto front). Each point has its name beside it, so colour is no sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from ...rag.evaluation.summary import Summary

_STYLE: Final = """
  svg { --paper: #ffffff; --ink: #1c2329; --soft: #5a6672; --line: #d5dbe0; --mark: #0b6b8f; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #14181c; --ink: #e8ecef; --soft: #a5b0ba; --line: #333c44; --mark: #62b9d8; }
  }
  .paper { fill: var(--paper); }
  text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: var(--ink); }
  .soft { font-size: 12px; fill: var(--soft); }
  .title { font-size: 16px; font-weight: 600; }
  .grid { stroke: var(--line); stroke-width: 1; }
  .front { fill: none; stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 5 4; }
  .point { fill: var(--mark); stroke: var(--paper); stroke-width: 1.5; }
""".strip()

_WIDTH, _HEIGHT = 720, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 696, 56, 380
_LABEL_CHARS_MAX: Final = 40
"""So many have room on one side of any point."""
_LABEL_HEIGHT: Final = 16.0


@dataclass(frozen=True, slots=True)
class Point:
    """What a configuration costs a question, and how much of the answers is right."""

    name: str
    cost: float
    right: float


@dataclass(frozen=True, slots=True)
class Axis:
    """From a value to a place."""

    ticks: tuple[float, ...]
    start: float
    end: float

    def at(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def points_of(summaries: Sequence[Summary]) -> tuple[list[Point], str]:
    """With what is on the axis of cost: money where the price is known for all, else tokens."""
    priced = all(one.cost is not None for one in summaries)
    judged = [one for one in summaries if one.right is not None]
    points = [
        Point(
            one.name,
            (one.cost or 0.0) / max(1, one.questions) if priced else one.prompt_tokens + one.completion_tokens,
            one.right or 0.0,
        )
        for one in judged
    ]
    return points, "cost a question" if priced and points else "tokens a question"


def front(points: Sequence[Point]) -> list[Point]:
    """Those that none beats, from the cheapest on."""
    best: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.right)):
        if not best or point.right > best[-1].right:
            best.append(point)
    return best


def ticks(low: float, high: float, wanted: int = 5) -> tuple[float, ...]:
    """Round numbers around a range: 1, 2 or 5 times a power of ten apart."""
    room = max(high - low, abs(high) * 0.02, 1e-9)
    power = 10.0 ** math.floor(math.log10(room / wanted))
    step = next(factor * power for factor in (1, 2, 5, 10) if room / (factor * power) <= wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(number * step, 10) for number in range(first, max(last, first + 1) + 1))


def as_svg(summaries: Sequence[Summary]) -> str:
    points, what = points_of(summaries)
    title = f"Right answers against {what}"
    across = Axis(ticks(0.0, max((one.cost for one in points), default=1.0)), _LEFT, _RIGHT)
    rights = [one.right for one in points] or [0.0, 1.0]
    up = Axis(ticks(min(rights), max(rights)), _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text class="title" x="24" y="32">{escape(title)}</text>',
        *_grid(across, up),
        f'<text class="soft" x="{_RIGHT}" y="{_BOTTOM + 42}" text-anchor="end">{escape(what)}</text>',
        *_line(front(points), across, up),
        *(line for point, y in labelled(points, across, up) for line in _point(point, y, across, up)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _grid(across: Axis, up: Axis) -> Iterator[str]:
    for value in up.ticks:
        y = up.at(value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="soft" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value * 100:g} %</text>'
    for value in across.ticks:
        yield f'<text class="soft" x="{across.at(value):.1f}" y="{_BOTTOM + 20}" text-anchor="middle">{value:g}</text>'


def _line(best: Sequence[Point], across: Axis, up: Axis) -> Iterator[str]:
    if len(best) > 1:
        places = " ".join(f"{across.at(one.cost):.1f},{up.at(one.right):.1f}" for one in best)
        yield f'<polyline class="front" points="{places}"/>'


def labelled(points: Sequence[Point], across: Axis, up: Axis) -> list[tuple[Point, float]]:
    """Each point and the height of its label: above it, or as far below as there is no other label in the way."""
    taken: list[tuple[float, float, float]] = []
    placed = []
    for point in points:
        x, y = across.at(point.cost), up.at(point.right) - 8
        left, right = (x - _label_width(point), x) if _is_left(x) else (x, x + _label_width(point))
        while any(left < end and right > start and abs(y - other) < _LABEL_HEIGHT for start, end, other in taken):
            y += _LABEL_HEIGHT
        taken.append((left, right, y))
        placed.append((point, y))
    return placed


def _label_width(point: Point) -> float:
    return 10 + 7.5 * min(len(point.name), _LABEL_CHARS_MAX)


def _is_left(x: float) -> bool:
    return x > (_LEFT + _RIGHT) / 2


def _point(point: Point, label_y: float, across: Axis, up: Axis) -> Iterator[str]:
    x, y = across.at(point.cost), up.at(point.right)
    name = point.name if len(point.name) <= _LABEL_CHARS_MAX else point.name[: _LABEL_CHARS_MAX - 1] + "…"
    told = f"{point.name}: {point.right:.1%} right, {point.cost:g}"
    yield f'<g><title>{escape(told)}</title><circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
    anchor, place = ("end", x - 10) if _is_left(x) else ("start", x + 10)
    yield f'<text x="{place:.1f}" y="{label_y:.1f}" text-anchor="{anchor}">{escape(name)}</text></g>'
