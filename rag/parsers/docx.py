"""Word documents (.docx): paragraphs, headings by the style they have, list items, tables row by row, foot- and endnotes.

Pages are not in the file: where they break depends on fonts and printer. So a chunk's place is its heading. Text that was
deleted or moved away under revision is left out, what was inserted is there. What it does not do: headers and footers,
comments, pictures, the numbers of numbered lists, which Word computes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ..blocks import Blocks
from ..errors import ParseError
from ..office import Archive, Attributes, attribute
from ..parser import Limits, Parsed

_SKIPPED: Final = frozenset({"Fallback", "moveFrom", "pPrChange", "rPrChange", "sdtPr"})
_BREAKS: Final = {"br": "\n", "cr": "\n", "tab": " ", "noBreakHyphen": "-"}
_NOTES: Final = frozenset({"footnotes", "endnotes"})
_HEADING = re.compile(r"heading ([1-9])")
_BASES_MAX: Final = 10
_LEVEL_MAX: Final = 6


class Docx:
    """Headings as in Markdown; the metadata has the document's `title`. A chunk's place: `heading`, the path it stands under."""

    def fingerprint(self) -> str:
        return "docx/1"

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed:
        """Raises ParseError: broken, encrypted, another kind of file, without text; ParseLimitError."""
        archive = Archive(content, limits)
        part = archive.main_part("word/document.xml")
        relations = list(archive.relations(part).values())
        styles = _Styles()
        for kind, target in relations:
            if kind == "styles":
                archive.read(target, styles)
        blocks = Blocks(limits)
        archive.read(part, _Body(blocks, styles.kinds()))
        for kind, target in relations:
            if kind in _NOTES:
                blocks.leave()
                archive.read(target, _Body(blocks, {}))
        if not blocks.chars:
            raise ParseError("no text in the document: pictures of text need optical character recognition first")
        return blocks.parsed(archive.title())


@dataclass(slots=True)
class _Style:
    name: str = ""
    based_on: str = ""
    level: int = 0
    is_item: bool = False


class _Styles:
    """Styles by id; German Word calls the id of "heading 1" `berschrift1`, so it is the name that counts."""

    def __init__(self) -> None:
        self._styles: dict[str, _Style] = {}
        self._style = _Style()

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "style":
            self._style = self._styles[attribute(attributes, "styleId")] = _Style()
        elif name == "name":
            self._style.name = attribute(attributes, "val").lower()
        elif name == "basedOn":
            self._style.based_on = attribute(attributes, "val")
        elif name == "outlineLvl":
            self._style.level = outline_level(attributes)
        elif name == "numPr":
            self._style.is_item = True

    def end(self, name: str) -> None:
        """A style ends where the next begins."""

    def text(self, data: str) -> None:
        """Styles have none."""

    def kinds(self) -> dict[str, tuple[int, bool]]:
        """Of each style: its level as a heading (0: none), and whether it makes list items."""
        return {key: self._kind(key) for key in self._styles}

    def _kind(self, key: str) -> tuple[int, bool]:
        """A style has what the one it is based on has."""
        for _ in range(_BASES_MAX):
            style = self._styles.get(key, _Style())
            heading = _HEADING.fullmatch(style.name)
            level = 1 if style.name == "title" else min(int(heading[1]), _LEVEL_MAX) if heading else style.level
            if level or style.is_item or not style.based_on:
                return level, style.is_item
            key = style.based_on
        return 0, False


def outline_level(attributes: Attributes) -> int:
    """1 to 6; 0 for body text, which is written as level 9."""
    value = attribute(attributes, "val")
    return int(value) + 1 if value.isdecimal() and int(value) < _LEVEL_MAX else 0


@dataclass(slots=True)
class _Paragraph:
    parts: list[str] = field(default_factory=list)
    level: int = 0
    is_item: bool = False


@dataclass(slots=True)
class _Table:
    rows: list[str] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)


class _Body:
    """Paragraphs may stand in text boxes in paragraphs, tables in cells of tables: each kind has a stack."""

    def __init__(self, blocks: Blocks, styles: Mapping[str, tuple[int, bool]]) -> None:
        self._blocks = blocks
        self._styles = styles
        self._paragraphs: list[_Paragraph] = []
        self._tables: list[_Table] = []
        self._skipped = 0
        self._runs = 0
        self._in_text = False

    def start(self, name: str, attributes: Attributes) -> None:
        if self._skipped or name in _SKIPPED:
            self._skipped += 1
        elif name == "t":
            self._in_text = True
        elif name == "r":
            self._runs += 1
        elif name == "p":
            self._paragraphs.append(_Paragraph())
        elif name == "tbl":
            self._tables.append(_Table())
        elif name in {"tr", "tc"} and self._tables:
            self._begin_cell(name, self._tables[-1])
        elif self._paragraphs:
            self._say(name, attributes, self._paragraphs[-1])

    def _begin_cell(self, name: str, table: _Table) -> None:
        if name == "tr":
            table.cells = []
        else:
            table.cells.append([])

    def _say(self, name: str, attributes: Attributes, paragraph: _Paragraph) -> None:
        """What is said of a paragraph, and breaks in its runs (tabs outside of runs are tab stops)."""
        if name in _BREAKS and self._runs:
            paragraph.parts.append(_BREAKS[name])
        elif name == "pStyle":
            paragraph.level, paragraph.is_item = self._styles.get(attribute(attributes, "val"), (0, False))
        elif name == "outlineLvl":
            paragraph.level = outline_level(attributes)
        elif name == "numPr":
            paragraph.is_item = True

    def text(self, data: str) -> None:
        if self._in_text and not self._skipped and self._paragraphs:
            self._paragraphs[-1].parts.append(data)

    def end(self, name: str) -> None:
        if self._skipped:
            self._skipped -= 1
        elif name == "t":
            self._in_text = False
        elif name == "r":
            self._runs -= 1
        elif name == "p" and self._paragraphs:
            self._end_paragraph(self._paragraphs.pop())
        elif name == "tr" and self._tables:
            table = self._tables[-1]
            table.rows.append(" | ".join(" ".join(" ".join(cell).split()) for cell in table.cells if any(cell)))
        elif name == "tbl" and self._tables:
            self._end_table(self._tables.pop())

    def _end_paragraph(self, paragraph: _Paragraph) -> None:
        text = "".join(paragraph.parts).strip()
        if self._tables and self._tables[-1].cells:
            self._tables[-1].cells[-1].append(text)
        elif paragraph.level and text:
            self._blocks.heading(paragraph.level, text)
        elif text:
            self._blocks.add(f"- {text}" if paragraph.is_item else text)

    def _end_table(self, table: _Table) -> None:
        rows = [row for row in table.rows if row]
        if self._tables and self._tables[-1].cells:
            self._tables[-1].cells[-1] += rows
        else:
            self._blocks.add("\n".join(rows))
