"""Figures as people read them: three digits, a unit, `12.3 k` and not `12345`."""

from __future__ import annotations

from collections.abc import Sequence

_LEVELS = "▁▂▃▄▅▆▇"


def count(number: float) -> str:
    """`412 806` below ten thousand in full, `46.5 k` and `1.2 M` above."""
    for size, unit in ((1e9, "bn"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if size == 1e4 else size):.3g} {unit}"
    return whole(round(number))


def whole(number: int) -> str:
    """All digits, in groups of three."""
    return f"{number:,}".replace(",", " ")


def rate(per_s: float) -> str:
    return f"{count(per_s)}/s"


def span(ms: float) -> str:
    """`433 ms`, `1.8 s`, `21 s`, `3 min`."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 120_000:
        return f"{ms / 1000:.1f} s" if ms < 9_950 else f"{ms / 1000:.0f} s"
    return f"{ms / 60_000:.0f} min"


def spark(values: Sequence[float], top: float) -> str:
    """A character a value; `top` is the height of the highest."""
    return "".join(_LEVELS[min(6, max(0, int(value / top * 7)))] if top > 0 else _LEVELS[0] for value in values)


def fitted(values: Sequence[float], width: int) -> list[float]:
    """That many values or fewer, the newest last, each the largest of its stretch."""
    step = -(-len(values) // width) if width > 0 else 1
    return [max(values[at : at + step]) for at in range(0, len(values), step)] if values else []
