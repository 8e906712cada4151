"""Excel workbooks (.xlsx): sheet by sheet, row by row, each value with the name of its column.

Values are what the program last computed and saved; a file that no spreadsheet program has ever computed has none for its
formulas. What it does not do: compute, charts, comments, formats other than those of dates and times.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..blocks import Blocks
from ..office import Archive
from ..parser import Limits, Parsed
from ..sheets import DateStyles, SharedStrings, Sheet, Workbook
from ..tables import Rows


@dataclass(frozen=True, slots=True)
class Xlsx:
    """The metadata has `title` and `sheets`. A chunk's place: `sheet`, `row` from 1, with `sheet_end` and `row_end`."""

    header: bool | None = None
    """Whether the first row of a sheet has the names of the columns; None: guessed."""

    def fingerprint(self) -> str:
        return f"xlsx/1 {self.header}"

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed:
        """Raises ParseError: broken, encrypted, another kind of file; ParseLimitError: sheets, cells, text."""
        archive = Archive(content, limits)
        part = archive.main_part("xl/workbook.xml")
        workbook, strings, styles = Workbook(), SharedStrings(limits), DateStyles()
        archive.read(part, workbook)
        limits.check_pages(len(workbook.sheets), "sheets")
        relations = archive.relations(part)
        for kind, target in relations.values():
            if kind == "sharedStrings":
                archive.read(target, strings)
            elif kind == "styles":
                archive.read(target, styles)
        blocks = Blocks(limits)
        for name, key in workbook.sheets:
            if relations.get(key, ("", ""))[0] == "worksheet":
                blocks.mark("sheet", name[:100])
                blocks.mark("row", None)
                blocks.heading(2, name)
                rows = Rows(blocks, self.header)
                sheet = Sheet(strings.strings, styles.dates, workbook.begin, limits, rows.add)
                archive.read(relations[key][1], sheet)
                rows.end()
        return blocks.parsed({"sheets": len(workbook.sheets)} | archive.title())
