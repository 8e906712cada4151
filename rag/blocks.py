"""Puts a document's text together block by block, with the marks of where each stands. What parsers of structured formats use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .headings import HeadingPath
from .parser import Limits, Parsed
from .places import Mark

_CONTROL = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127])


class Blocks:
    """Blocks are parted by blank lines, lines of a table by line ends. Raises ParseLimitError as soon as the text is too long."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parts: list[str] = []
        self._marks: list[Mark] = []
        self._pending: dict[str, Any] = {}
        """Marks of the next block: a million empty rows leave one."""
        self._path = HeadingPath()
        self.chars = 0

    def add(self, text: str, joint: str = "\n\n") -> None:
        """A block, or with another joint a part of the one before. A blank one is left out."""
        plain = clean(text)
        if not plain:
            return
        self._put_marks()
        if self._parts:
            self._put(joint)
        self._put(plain)

    def mark(self, key: str, value: Any) -> None:
        """Holds from the next block on."""
        self._pending[key] = value

    def heading(self, level: int, title: str) -> None:
        """Written as in Markdown; what follows stands under it."""
        plain = " ".join(clean(title).split())
        if plain:
            self.mark("heading", self._path.enter(level, plain))
            self.add(f"{'#' * min(level, 6)} {plain}")

    def leave(self) -> None:
        """What follows stands under no heading."""
        self._path = HeadingPath()
        self.mark("heading", None)

    def adopt(self, parsed: Parsed) -> None:
        """The text and the marks of a document within this one."""
        if not parsed.text:
            return
        self._put_marks()
        start = self.chars + (2 if self._parts else 0)
        self._marks += [Mark(start + mark.start, mark.key, mark.value) for mark in parsed.marks]
        self._put(f"\n\n{parsed.text}" if self._parts else parsed.text)
        self._pending |= dict.fromkeys((mark.key for mark in parsed.marks), None)

    def parsed(self, metadata: Mapping[str, Any]) -> Parsed:
        return Parsed("".join(self._parts), metadata, tuple(self._marks))

    def _put_marks(self) -> None:
        self._marks += [Mark(self.chars, key, value) for key, value in self._pending.items()]
        self._pending = {}

    def _put(self, text: str) -> None:
        self.chars += len(text)
        self._limits.check_chars(self.chars)
        self._parts.append(text)


def clean(text: str) -> str:
    """Without control characters and lone surrogates, which no JSON may hold, and without white space around it."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROL)
    return (plain if plain.isascii() else plain.encode("utf-8", "ignore").decode()).strip()
