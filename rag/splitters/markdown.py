"""Cuts Markdown at its headings first, then each section as `recursive` does.

A section is a heading and what follows to the next one. Headings inside fenced code are code. A heading alone (its text
begins with a deeper heading) goes with the section below it, so that "## Prices" is never a chunk of its own where it can
be helped. An edit in one section cannot move a boundary in another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .recursive import Recursive

_HEADING = re.compile(r"#{1,6}[ \t]+\S")
_FENCE = re.compile(r"[ ]{0,3}(```+|~~~+)")


@dataclass(frozen=True, slots=True)
class Markdown:
    """`chars_max`: no chunk is longer (characters)."""

    chars_max: int = 800
    _inner: Recursive = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_inner", Recursive(self.chars_max))

    def fingerprint(self) -> str:
        return f"markdown/1 {self.chars_max}"

    def split(self, text: str) -> list[str]:
        sections = _with_lone_headings(_sections(text), self.chars_max)
        return [chunk for section in sections for chunk in self._inner.split(section)]


def _sections(text: str) -> list[str]:
    sections: list[list[str]] = [[]]
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        elif not fence and _HEADING.match(line):
            sections.append([])
        sections[-1].append(line)
    texts = ("\n".join(lines).strip() for lines in sections)
    return [section for section in texts if section]


def _with_lone_headings(sections: list[str], chars_max: int) -> list[str]:
    """A section that is nothing but its heading leads the next, where both fit into one chunk."""
    joined: list[str] = []
    lead = ""
    for section in sections:
        whole = f"{lead}\n\n{section}" if lead else section
        if lead and len(whole) > chars_max:
            joined.append(lead)
            whole = section
        lone = "\n" not in section and bool(_HEADING.match(section))
        lead = whole if lone else ""
        if not lone:
            joined.append(whole)
    return [*joined, lead] if lead else joined
