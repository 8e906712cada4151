"""A picture of a chaos run as SVG: for each play its results a second over time, what was done to it, and the stalls.

One file without scripts that is readable on light and dark ground (`prefers-color-scheme`). Nothing is told by colour
alone: a kill is a cross on a line, a fault that lasts a hatched band with its name, a stall a bar under the axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from tests.scenarios.outcome import BIN_S, Mark, Outcome

WIDTH, LEFT, RIGHT = 960, 16, 16
ROW, PLOT = 104, 52
"""Height of a play, and of its chart in it."""
TOP = 46
LABEL_PX_MIN = 64
"""A label nearer to the one before is left out; its mark stays."""

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1d2327 }
.small { font-size: 10.5px; fill: #56616a }
.title { font-size: 15px; font-weight: 600 }
.ground { fill: #fff } .axis { stroke: #c5ccd1 }
.flow { fill: #0b6b8f; fill-opacity: .22; stroke: #0b6b8f; stroke-width: 1.2 }
.kill { stroke: #b3261e; stroke-width: 1.3; fill: none } .note { stroke: #56616a; stroke-dasharray: 3 2 }
.fault { fill: url(#hatch); stroke: #c2700a; stroke-width: .8 } .hatch { stroke: #c2700a; stroke-opacity: .55 }
.stall { fill: #6f55a8 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6eaed } .small { fill: #a6b1b9 }
  .ground { fill: #14191d } .axis { stroke: #3d474e }
  .flow { fill: #62b9d8; stroke: #62b9d8 } .kill { stroke: #ff8a80 } .note { stroke: #a6b1b9 }
  .fault { stroke: #eda64a } .hatch { stroke: #eda64a } .stall { fill: #b7a2e6 }
}
"""

CROSSED = ("kill", "kill, not restarted", "reset")


def timeline(titled: Sequence[tuple[str, Outcome]], title: str) -> str:
    """The plays one below the other, each on its own time axis."""
    height = TOP + ROW * len(titled) + 12
    rows = "\n".join(
        f'<g transform="translate({LEFT},{TOP + ROW * index})">\n{"".join(_row(name, outcome))}</g>'
        for index, (name, outcome) in enumerate(titled)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n"
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<line class="hatch" x1="0" y1="0" x2="0" y2="6" stroke-width="2"/></pattern></defs>\n'
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>\n'
        f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>\n{_legend()}{rows}\n</svg>\n'
    )


def _legend() -> str:
    y = 36
    return (
        f'<g transform="translate({LEFT},{y})"><rect class="flow" y="-8" width="14" height="8"/>'
        '<text class="small" x="18">committed results a second</text>'
        '<path class="kill" d="M178 -9l6 6m0 -6l-6 6"/><text class="small" x="190">kill -9, or a connection reset</text>'
        '<rect class="fault" x="358" y="-9" width="14" height="9"/><text class="small" x="377">stopped, or away</text>'
        '<rect class="stall" x="480" y="-5" width="14" height="4"/>'
        '<text class="small" x="499">some partition gave nothing for more than a second</text></g>\n'
    )


def _row(name: str, outcome: Outcome) -> Iterator[str]:
    width = WIDTH - LEFT - RIGHT
    seconds = max(len(outcome.throughput) * BIN_S, 1.0)
    scale = width / seconds
    yield f'<text y="12">{escape(name)}</text>\n'
    yield f'<text class="small" x="{width}" y="12" text-anchor="end">{escape(_figures(outcome))}</text>\n'
    top = 20 + PLOT
    yield _flow(outcome.throughput, scale, top)
    yield f'<line class="axis" y1="{top}" y2="{top}" x2="{width}"/>\n'
    yield from _marks(outcome.marks, scale, top)
    for start, end in outcome.stalls:
        bar = max((end - start) * scale, 1)
        yield f'<rect class="stall" x="{start * scale:.1f}" y="{top + 2}" width="{bar:.1f}" height="4" fill-opacity=".6"/>\n'
    for second in _ticks(seconds):
        yield f'<text class="small" x="{second * scale:.1f}" y="{top + 18}" text-anchor="middle">{second} s</text>\n'


def _figures(outcome: Outcome) -> str:
    peak = max(outcome.throughput, default=0) / BIN_S
    found = "none lost, none twice" if outcome.clean else _wrong(outcome)
    return f"{outcome.records:,} records, top {peak:,.0f}/s, longest stall {outcome.longest_stall_s:.1f} s, {found}"


def _wrong(outcome: Outcome) -> str:
    verdict = outcome.verdict
    return f"{verdict.lost:,} lost, {verdict.duplicated:,} twice, {verdict.wrong:,} wrong"


def _flow(bins: Sequence[int], scale: float, bottom: int) -> str:
    """An area of steps. The highest bin is cut at four times the mean: what is caught up after a stall would flatten the rest."""
    if not any(bins):
        return ""
    top = min(max(bins), 4 * sum(bins) / len(bins))
    points = []
    for index, count in enumerate(bins):
        y = bottom - min(count / top, 1) * PLOT
        points.append(f"L{index * BIN_S * scale:.1f} {y:.1f}H{(index + 1) * BIN_S * scale:.1f}")
    return f'<path class="flow" d="M0 {bottom}{"".join(points)}V{bottom}Z"/>\n'


def _marks(marks: Sequence[Mark], scale: float, bottom: int) -> Iterator[str]:
    free = 0.0
    for mark in sorted(marks, key=lambda mark: mark.at_s):
        x = mark.at_s * scale
        if mark.ends_s is not None:
            wide = max((mark.ends_s - mark.at_s) * scale, 2)
            yield f'<rect class="fault" x="{x:.1f}" y="20" width="{wide:.1f}" height="{PLOT}" fill-opacity=".5"/>\n'
        else:
            cross = f"m-3 {20 - bottom}l6 6m0 -6l-6 6" if mark.kind in CROSSED else ""
            yield f'<path class="{"kill" if cross else "note"}" d="M{x:.1f} 26V{bottom}{cross}"/>\n'
        label = f"{mark.kind} {mark.detail}".strip()
        if mark.kind not in CROSSED and x >= free:
            free = x + LABEL_PX_MIN * 2
            yield f'<text class="small" x="{x + 4:.1f}" y="30">{escape(label)}</text>\n'


def _ticks(seconds: float) -> range:
    """At most a dozen, of a step that people count in."""
    step = next(step for step in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 3600) if seconds / step <= 12 or step == 3600)
    return range(step, int(seconds), step)
