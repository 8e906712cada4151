"""Pictures as SVG files: no library, no script, readable on light and on dark ground; a sign is never a colour alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 820
LEFT = 178
"""Where the drawing begins; the names of its lanes stand before it."""

_STYLE = """
  svg { --paper: #ffffff; --ink: #1c2329; --soft: #55616c; --line: #c5ccd2; --pale: #e3eff4; --shade: #f1f3f5;
    --blue: #0b6b8f; --amber: #b06000; --violet: #6f55a8; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #14181c; --ink: #e8ecef; --soft: #a5b0ba; --line: #47525b; --pale: #1c3843; --shade: #1e242a;
      --blue: #62b9d8; --amber: #eda64a; --violet: #b7a2e6; }
  }
  .paper { fill: var(--paper); } .shade { fill: var(--shade); }
  text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: var(--ink); }
  .title { font-size: 16px; font-weight: 600; }
  .soft { font-size: 12px; fill: var(--soft); }
  .code { font-family: ui-monospace, monospace; font-size: 12px; }
  .amber-text { font-size: 12px; fill: var(--amber); }
  .strong { font-size: 12px; font-weight: 600; }
  .grid { stroke: var(--line); stroke-width: 0.75; } .axis { stroke: var(--soft); stroke-width: 1; }
  .bar { fill: var(--pale); stroke: var(--blue); stroke-width: 1.25; }
  .blue, .amber, .thick { fill: none; stroke-width: 2; stroke-linejoin: round; }
  .blue { stroke: var(--blue); } .amber { stroke: var(--amber); stroke-dasharray: 7 4; }
  .thick { stroke: var(--ink); stroke-width: 3; }
  .dot { fill: var(--blue); } .late { stroke: var(--amber); stroke-width: 2.25; }
  .half { fill: var(--paper); stroke: var(--violet); stroke-width: 2; } .half-fill { fill: var(--violet); }
  .result { fill: var(--ink); } .result-text { font-size: 12px; font-weight: 600; fill: var(--paper); }
""".strip()


@dataclass(frozen=True)
class Scale:
    """From values to px, both ends given."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) * (self.end - self.start) / (self.high - self.low), 1)


@dataclass
class Drawing:
    """`told` is what the picture shows, for those who do not see it."""

    title: str
    told: str
    height: float
    parts: list[str] = field(default_factory=list)
    signs: list[str] = field(default_factory=list)
    """Drawn over all the rest."""

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        style = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text{style} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.parts.append(f'<line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>')

    def path(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        told = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(f'<polyline class="{kind}" points="{told}"/>')

    def box(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        self.parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3"/>')

    def bar(self, x1: float, x2: float, y: float, text: str) -> None:
        """A span of time with its value in it. A hair narrower than it is, so that neighbours do not touch."""
        self.box(x1 + 1, y, x2 - x1 - 2, 20, "bar")
        self.text((x1 + x2) / 2, y + 14, text, "", "middle")

    def dot(self, x: float, y: float) -> None:
        self.signs.append(f'<circle class="dot" cx="{x:g}" cy="{y:g}" r="5"/>')

    def cross(self, x: float, y: float) -> None:
        lines = f"M{x - 5:g},{y - 5:g} L{x + 5:g},{y + 5:g} M{x - 5:g},{y + 5:g} L{x + 5:g},{y - 5:g}"
        self.signs.append(f'<path class="late" d="{lines}"/>')

    def half(self, x: float, y: float) -> None:
        self.signs.append(f'<circle class="half" cx="{x:g}" cy="{y:g}" r="5"/>')
        self.signs.append(f'<path class="half-fill" d="M{x:g},{y - 5:g} A5,5 0 0 0 {x:g},{y + 5:g} z"/>')

    def result(self, x: float, y: float, text: str) -> None:
        """A result that is written: a dark tag."""
        width = 16 + 7 * len(text)
        corner = f'x="{x - width / 2:g}" y="{y - 10:g}" width="{width}" height="20" rx="3"'
        self.signs.append(f'<rect class="result" {corner}/>')
        self.signs.append(
            f'<text class="result-text" x="{x:g}" y="{y + 4:g}" text-anchor="middle">{escape(text)}</text>'
        )

    def seconds(self, scale: Scale, y: float, step: int, top: float | None = None) -> None:
        """An axis of time below, with a grid up to `top`."""
        first = -(-int(scale.low) // step) * step
        for value in range(first, int(scale.high) + 1, step):
            if top is not None:
                self.line(scale(value), top, scale(value), y, "grid")
            self.text(scale(value), y + 17, f"{value} s", "soft", "middle")
        self.line(scale.start, y, scale.end, y, "axis")

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height:g}" width="{WIDTH}" height="{self.height:g}" '
            f'role="img" aria-labelledby="title told">'
        )
        return "\n".join(
            [
                head,
                f'<title id="title">{escape(self.title)}</title>',
                f'<desc id="told">{escape(self.told)}</desc>',
                f"<style>{_STYLE}</style>",
                f'<rect class="paper" width="{WIDTH}" height="{self.height:g}"/>',
                f'<text class="title" x="20" y="28">{escape(self.title)}</text>',
                *self.parts,
                *self.signs,
                "</svg>\n",
            ]
        )


def lanes(spans: Sequence[tuple[float, float]]) -> list[int]:
    """For each span the first lane where it overlaps nothing."""
    ends: list[float] = []
    chosen = []
    for start, end in spans:
        lane = next((number for number, taken in enumerate(ends) if taken <= start), len(ends))
        ends[lane : lane + 1] = [end]
        chosen.append(lane)
    return chosen
