"""Where in its document a chunk stands, in the words of its format: page, slide, sheet and row, heading. For citations. Pure.

A parser notes, as it writes the text, from which character on something holds (`Mark`); a chunk takes what holds where it
begins, and what holds last in it as `page_end`, `row_end`, ... where that is another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from .splitter import Piece


class Mark(NamedTuple):
    """From `start` on `key` is `value` (None: no longer known), until the next mark of the key."""

    start: int
    key: str
    value: Any


Place = dict[str, Any]

RANGES: Final = ("page", "slide", "sheet", "row", "second")
"""Keys of which a chunk may cover more than one."""


def places(marks: Sequence[Mark], pieces: Sequence[Piece]) -> list[Place]:
    """One for each piece. Both are in the order of the text."""
    found: list[Place] = []
    held: Place = {}
    position = 0
    for piece in pieces:
        while position < len(marks) and marks[position].start <= piece.start:
            _apply(held, marks[position])
            position += 1
        found.append(_with_ends(held, marks, position, piece.stop))
    return found


def _with_ends(begun: Place, marks: Sequence[Mark], position: int, stop: int) -> Place:
    """What is not known where the chunk begins (a row, at the name of its sheet) is what it is first."""
    first = dict(begun)
    ended: Place = {}
    while position < len(marks) and marks[position].start < stop:
        _, key, value = marks[position]
        if key in RANGES and value is not None:
            first.setdefault(key, value)
            ended[key] = value
        position += 1
    return first | {f"{key}_end": value for key, value in ended.items() if value != first[key]}


def _apply(held: Place, mark: Mark) -> None:
    if mark.value is None:
        held.pop(mark.key, None)
    else:
        held[mark.key] = mark.value
