"""Small chunks are searched, and their parent is shown: the section they stand in, or a part of it that fits.

A small chunk says one thing, so its vector is near the question that asks for it; what the language model needs to answer is
around it. Chunks of one parent that are found together show it once. Each chunk's record carries its parent's text, so that
records stay whole by themselves; neighbours in a topic's batch compress well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..cutting import cut, is_boundary
from ..splitter import Piece
from .markdown import sections


@dataclass(frozen=True, slots=True)
class ParentDocument:
    """`chars_max` of a chunk, `parent_chars_max` of what is shown (characters)."""

    chars_max: int = 200
    parent_chars_max: int = 1_600

    def __post_init__(self) -> None:
        if self.chars_max < 20:
            raise ValueError(f"chars_max must be at least 20, got {self.chars_max}")
        if self.parent_chars_max < self.chars_max:
            raise ValueError(f"parent_chars_max must be at least chars_max, got {self.parent_chars_max}")

    def fingerprint(self) -> str:
        return f"parent_document/1 {self.chars_max} {self.parent_chars_max}"

    def split(self, text: str) -> list[Piece]:
        """Sections are cut into chunks, and neighbouring chunks put together to parents: an edit changes few of either."""
        whole = sections(text, self.parent_chars_max)
        return [
            child
            for section in whole
            for family in self._families(cut(section.text, self.chars_max, len, section.start))
            for child in _with_parent(text, family)
        ]

    def _families(self, children: list[Piece]) -> list[list[Piece]]:
        families: list[list[Piece]] = []
        is_full = True
        for child in children:
            if is_full or child.stop - families[-1][0].start > self.parent_chars_max:
                families.append([])
            families[-1].append(child)
            is_full = (child.stop - families[-1][0].start) * 2 >= self.parent_chars_max and is_boundary(child)
        return families


def _with_parent(text: str, family: list[Piece]) -> list[Piece]:
    if len(family) == 1:
        return family
    parent = text[family[0].start : family[-1].stop]
    return [replace(child, parent=parent) for child in family]
