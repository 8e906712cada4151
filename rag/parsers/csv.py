"""CSV and its relatives (commas, semicolons, tabs, bars): row by row, each value with the name of its column.

The delimiter is the one that cuts the first lines most evenly. The standard library's own guess (`csv.Sniffer`) runs regular
expressions over the text that a hostile file can make take for ever. Encodings: as `text`.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Final

from ..blocks import Blocks
from ..errors import ParseError, ParseLimitError
from ..parser import Limits, Parsed
from ..tables import Rows
from .text import decoded

_DELIMITERS: Final = ",;\t|"
_SAMPLE_CHARS: Final = 20_000
_SAMPLE_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Csv:
    """A chunk's place: `row` as a spreadsheet counts, from 1, and `row_end`. Options where the guess is wrong."""

    delimiter: str = ""
    header: bool | None = None
    """Whether the first row has the names of the columns."""

    def __post_init__(self) -> None:
        if len(self.delimiter) > 1:
            raise ValueError(f"delimiter must be one character, got {self.delimiter!r}")

    def fingerprint(self) -> str:
        return f"csv/1 {self.delimiter} {self.header}"

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed:
        """Raises ParseError for bytes that are no text, ParseLimitError (a huge cell, too much text)."""
        text = decoded(content, content_type, limits)
        delimiter = self.delimiter or ("\t" if "tab-separated" in content_type else _delimiter(text))
        csv.field_size_limit(limits.cell_chars_max)
        blocks = Blocks(limits)
        rows = Rows(blocks, self.header)
        try:
            for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), 1):
                rows.add(number, {column: cell for column, cell in enumerate(cells) if cell})
        except csv.Error as error:
            if "field limit" in str(error):
                reason = f"a cell has more than {limits.cell_chars_max} characters (cell_chars_max): an unclosed quote?"
                raise ParseLimitError(reason) from None
            raise ParseError(f"not CSV: {error}") from None
        rows.end()
        return blocks.parsed({})


def _delimiter(text: str) -> str:
    """Of those that the first line has, the one whose number varies least from line to line; the more the better."""
    lines = [line for line in text[:_SAMPLE_CHARS].split("\n")[:_SAMPLE_LINES] if line.strip()]

    def fit(mark: str) -> tuple[int, int]:
        counts = [line.count(mark) for line in lines]
        return sum(count == counts[0] for count in counts), counts[0]

    found = [mark for mark in _DELIMITERS if lines and mark in lines[0]]
    return max(found, key=fit, default=",")
