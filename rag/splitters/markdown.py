"""Cuts Markdown at its headings first, then each section as `recursive` does.

A section is a heading and what follows to the next one. Headings inside fenced code are code. A heading alone (its text
begins with a deeper heading) goes with the section below it, so that "## Prices" is never a chunk of its own where it can
be helped. An edit in one section cannot move a boundary in another.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..cutting import cut, trimmed
from ..headings import headings
from ..splitter import Piece


@dataclass(frozen=True, slots=True)
class Markdown:
    """`chars_max`: no chunk is longer (characters)."""

    chars_max: int = 800

    def __post_init__(self) -> None:
        if self.chars_max < 20:
            raise ValueError(f"chars_max must be at least 20, got {self.chars_max}")

    def fingerprint(self) -> str:
        return f"markdown/2 {self.chars_max}"

    def split(self, text: str) -> list[Piece]:
        return [
            chunk
            for section in sections(text, self.chars_max)
            for chunk in cut(section.text, self.chars_max, len, section.start)
        ]


def sections(text: str, chars_max: int) -> list[Piece]:
    """Each with its heading; one that is nothing but its heading leads the next, where both fit into one chunk."""
    starts = [heading.start for heading in headings(text)]
    at_heading = set(starts)
    joined: list[Piece] = []
    lead: Piece | None = None
    for begin, end in zip([0, *starts], [*starts, len(text)], strict=True):
        section = trimmed(text[begin:end], begin)
        if not section.text:
            continue
        lone = begin in at_heading and "\n" not in section.text
        if lead is not None and section.stop - lead.start <= chars_max:
            section = trimmed(text[lead.start : section.stop], lead.start)
        elif lead is not None:
            joined.append(lead)
        lead = section if lone else None
        if not lone:
            joined.append(section)
    return [*joined, lead] if lead is not None else joined
