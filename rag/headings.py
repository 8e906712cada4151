"""Headings in a text, as Markdown writes them, and the path of headings that a place stands under. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_HEADING = re.compile(r"(#{1,6})[ \t]+(\S[^\n]*)")
_FENCE = re.compile(r"[ ]{0,3}(```+|~~~+)")
_TITLE_CHARS_MAX: Final = 100
_PATH_CHARS_MAX: Final = 300


class Heading(NamedTuple):
    """One line."""

    start: int
    """Of its line, in characters."""
    level: int
    title: str


def headings(text: str) -> Iterator[Heading]:
    """In the order of the text. A heading inside fenced code is code."""
    fence, start = "", 0
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        elif not fence and (found := _HEADING.match(line)):
            yield Heading(start, len(found[1]), found[2].rstrip(" \t#"))
        start += len(line) + 1


class HeadingPath:
    """The headings over a place: "Lamps > Prices". Long titles are cut, and the top of a long path left out."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, title: str) -> str:
        """The path from this heading on."""
        self._open = [(outer, name) for outer, name in self._open if outer < level]
        self._open.append((level, " ".join(title.split())[:_TITLE_CHARS_MAX]))
        path = " > ".join(name for _, name in self._open if name)
        return path if len(path) <= _PATH_CHARS_MAX else path[-_PATH_CHARS_MAX:].partition(" > ")[2]
