"""Rows of a table as text that can be found and quoted: `name: lamp | price: 40`, one row a line. Pure.

A row alone says little; with the names of its columns it is a sentence. Whether the first row holds names is guessed where it
is not said: two or more cells, all filled, all different, short, and none a number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from .blocks import Blocks

_NUMBER = re.compile(r"[-+]?[\d.,\s]*\d[%€$£]?|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*")
_NAME_CHARS_MAX: Final = 80


class Rows:
    """Adds rows to blocks, each with its number as the mark `row`. `header`: whether the first row names the columns."""

    def __init__(self, blocks: Blocks, header: bool | None = None) -> None:
        self._blocks = blocks
        self._header = header
        self._names: list[str] | None = None
        self._held: tuple[int, list[str]] | None = None
        self._written = False

    def add(self, number: int, cells: Sequence[str]) -> None:
        """`number` as a spreadsheet counts, from 1. A blank row is left out."""
        plain = [" ".join(cell.split()) for cell in cells]
        if not any(plain):
            return
        if self._names is None:
            self._names = plain if self._is_header(plain) else []
            if self._names:
                self._held = (number, plain)
                return
        self._held = None
        self._write(number, plain)

    def end(self) -> None:
        """A table that has nothing but names is its names."""
        if self._held is not None:
            self._names = []
            self._write(*self._held)

    def _is_header(self, cells: list[str]) -> bool:
        if self._header is not None:
            return self._header
        filled = all(0 < len(cell) <= _NAME_CHARS_MAX and not _NUMBER.fullmatch(cell) for cell in cells)
        return len(cells) > 1 and filled and len(set(cells)) == len(cells)

    def _write(self, number: int, cells: list[str]) -> None:
        self._blocks.mark("row", number)
        names = self._names or []
        named = (
            f"{names[column]}: {cell}" if column < len(names) and names[column] else cell
            for column, cell in enumerate(cells)
            if cell
        )
        self._blocks.add(" | ".join(named), "\n" if self._written else "\n\n")
        self._written = True
