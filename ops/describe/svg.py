"""A topology as one SVG file, with no library and no script; readable on light and on dark ground.

Topics are round, steps square, internal topics dashed. Under a name stand what it is, what it goes by (window, bounds, key), how the
inputs of a join are partitioned, and the stores it keeps. Colours are never the only sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from .layout import CHARACTER, LINE, Frame, Layout, Placed, layout_of
from .outline import Outline

_STYLE: Final = """
  svg { --paper: #ffffff; --ink: #1c2329; --soft: #5a6672; --line: #9aa5af; --topic: #0b6b8f; --state: #8a4f00; --frame: #f3f5f7; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #14181c; --ink: #e8ecef; --soft: #a5b0ba; --line: #6b7782; --topic: #62b9d8; --state: #eda64a; --frame: #1d2328; }
  }
  .paper { fill: var(--paper); }
  text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: var(--ink); }
  .soft { font-size: 12px; fill: var(--soft); }
  .state { font-size: 12px; fill: var(--state); }
  .title { font-size: 16px; font-weight: 600; }
  .box { fill: var(--paper); stroke: var(--ink); stroke-width: 1.25; }
  .topic { stroke: var(--topic); stroke-width: 1.75; } .internal { stroke: var(--topic); stroke-dasharray: 5 4; }
  .frame { fill: var(--frame); stroke: var(--line); stroke-width: 0.75; }
  .arrow { fill: none; stroke: var(--line); stroke-width: 1.5; } .head { fill: var(--line); }
""".strip()


def as_svg(outline: Outline) -> str:
    layout = layout_of(outline)
    title = f"{outline.app}: {outline.guarantee.replace('_', ' ')}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {layout.width:g} {layout.height:g}" '
        f'width="{layout.width:g}" height="{layout.height:g}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="head" d="M0,0 L8,4 L0,8 z"/></marker></defs>',
        f'<rect class="paper" width="{layout.width:g}" height="{layout.height:g}"/>',
        f'<text class="title" x="24" y="34">{escape(title)}</text>',
        *(_frame(frame) for frame in layout.frames),
        *(_arrow(layout, source, target) for source, target in outline.arrows),
        *(line for placed in layout.boxes.values() for line in _box(placed)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _frame(frame: Frame) -> str:
    return (
        f'<rect class="frame" x="{frame.x:g}" y="{frame.y:g}" width="{frame.width:g}" height="{frame.height:g}" rx="6"/>'
        f'<text class="soft" x="{frame.x + 12:g}" y="{frame.y + 17:g}">{escape(frame.title)}</text>'
    )


def _arrow(layout: Layout, source: str, target: str) -> str:
    a, b = layout.boxes[source], layout.boxes[target]
    x, y = a.x + a.width, a.y + a.height / 2
    path = f"M{x:g},{y:g}"
    for left, right, height in (*layout.passes[source, target], (b.x, b.x, b.y + b.height / 2)):
        bend = max(24.0, (left - x) / 2)
        path += f" C{x + bend:g},{y:g} {left - bend:g},{height:g} {left:g},{height:g}"
        path += f" H{right:g}" if right > left else ""
        x, y = right, height
    return f'<path class="arrow" marker-end="url(#head)" d="{path}"/>'


def _box(placed: Placed) -> Iterator[str]:
    box, middle = placed.box, placed.x + placed.width / 2
    kind = "box" if box.kind == "step" else f"box {box.kind}"
    yield "<g>"
    yield f"<title>{escape(_told(placed))}</title>"
    yield (
        f'<rect class="{kind}" x="{placed.x:g}" y="{placed.y:g}" width="{placed.width:g}" height="{placed.height:g}" '
        f'rx="{4 if box.kind == "step" else placed.height / 2:g}"/>'
    )
    lines = (box.name, *box.lines)
    top = placed.y + (placed.height - LINE * len(lines)) / 2 + 13
    for number, line in enumerate(lines):
        style = "" if not number else ' class="state"' if line.startswith("store: ") else ' class="soft"'
        text = escape(_cut(line, placed.width))
        yield f'<text{style} x="{middle:g}" y="{top + LINE * number:g}" text-anchor="middle">{text}</text>'
    yield "</g>"


def _told(placed: Placed) -> str:
    """What a pointer held over the box shows."""
    box = placed.box
    stores = [f"store: {store}" for store in box.stores]
    return "\n".join([f"{box.name} ({box.what})", *(f"{name}: {told}" for name, told in box.details), *stores])


def _cut(text: str, width: float) -> str:
    room = int((width - 20) / CHARACTER)
    return text if len(text) <= room else f"{text[: room - 1]}…"
