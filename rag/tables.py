"""Rows of a table as text that can be found and quoted: `name: lamp | price: 40`, one row a line. Pure.

A row alone says little; with the names of its columns it is a sentence. Whether the first row holds names is guessed where it
is not said: two or more cells side by side, all different, short, and none a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from .blocks import Blocks

_NUMBER = re.compile(r"[-+]?[\d.,\s]*\d[%€$£]?|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*")
_NAME_CHARS_MAX: Final = 80

Cells = Mapping[int, str]
"""By column, in the order of the columns; empty ones may be left out, of which a wide sheet has millions."""


class Rows:
    """Adds rows to blocks, each with its number as the mark `row`. `header`: whether the first row names the columns."""

    def __init__(self, blocks: Blocks, header: bool | None = None) -> None:
        self._blocks = blocks
        self._header = header
        self._names: Cells | None = None
        self._held: tuple[int, Cells] | None = None
        self._written = False

    def add(self, number: int, cells: Cells) -> None:
        """`number` as a spreadsheet counts, from 1. A blank row is left out."""
        plain = {column: text for column, cell in cells.items() if (text := " ".join(cell.split()))}
        if not plain:
            return
        if self._names is None:
            self._names = plain if self._is_header(plain) else {}
            if self._names:
                self._held = (number, plain)
                return
        self._held = None
        self._write(number, plain)

    def end(self) -> None:
        """A table that has nothing but names is its names."""
        if self._held is not None:
            self._names = {}
            self._write(*self._held)

    def _is_header(self, cells: Cells) -> bool:
        if self._header is not None:
            return self._header
        beside = len(cells) > 1 and max(cells) - min(cells) == len(cells) - 1
        short = all(len(cell) <= _NAME_CHARS_MAX and not _NUMBER.fullmatch(cell) for cell in cells.values())
        return beside and short and len(set(cells.values())) == len(cells)

    def _write(self, number: int, cells: Cells) -> None:
        self._blocks.mark("row", number)
        names = self._names or {}
        named = (f"{names[column]}: {cell}" if column in names else cell for column, cell in cells.items())
        self._blocks.add(" | ".join(named), "\n" if self._written else "\n\n")
        self._written = True
