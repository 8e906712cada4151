"""PowerPoint presentations (.pptx): slide by slide, the title as a heading, then each shape's text, tables, the speaker's notes.

Shapes come in the order of the file, which is the order in which they were drawn. What it does not do: pictures, charts,
diagrams (SmartArt), the numbers and dates that stand on every slide.
"""

from __future__ import annotations

from typing import Final

from ..blocks import Blocks
from ..errors import ParseError
from ..office import Archive, Attributes, attribute
from ..parser import Limits, Parsed

_TITLES: Final = frozenset({"title", "ctrTitle"})
_LEFT_OUT: Final = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})


class Pptx:
    """The metadata has `title` and `slides`. A chunk's place: `slide`, from 1, with `slide_end`, and its title as `heading`."""

    def fingerprint(self) -> str:
        return "pptx/1"

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed:
        """Raises ParseError: broken, encrypted, another kind of file, without text; ParseLimitError."""
        archive = Archive(content, limits)
        part = archive.main_part("ppt/presentation.xml")
        order = _Order()
        archive.read(part, order)
        limits.check_pages(len(order.ids), "slides")
        relations = archive.relations(part)
        slides = [relations[key][1] for key in order.ids if key in relations]
        blocks = Blocks(limits)
        for number, slide in enumerate(slides, 1):
            _add_slide(blocks, archive, slide, number)
        if not blocks.chars:
            raise ParseError(f"no text on {len(slides)} slides: pictures need optical character recognition first")
        return blocks.parsed({"slides": len(slides)} | archive.title())


def _add_slide(blocks: Blocks, archive: Archive, part: str, number: int) -> None:
    blocks.mark("slide", number)
    blocks.leave()
    slide = _Slide()
    archive.read(part, slide)
    blocks.heading(2, " ".join(slide.titles))
    for text in slide.texts:
        blocks.add(text)
    for kind, target in archive.relations(part).values():
        if kind == "notesSlide":
            notes = _Slide()
            archive.read(target, notes)
            blocks.add("".join(f"Notes: {text}\n" for text in notes.texts))


class _Order:
    """The relations of the slides, in their order."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "sldId":
            self.ids.append(attribute(attributes, "id"))

    def end(self, name: str) -> None:
        """Slides are only named here."""

    def text(self, data: str) -> None:
        """Nor is there text."""


class _Slide:
    """Titles, and the text of every other shape, its paragraphs on lines of their own, a table's row on one."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.texts: list[str] = []
        self._kind = ""
        self._lines: list[str] = []
        self._line: list[str] = []
        self._row: list[str] | None = None
        self._skipped = 0
        self._in_text = False

    def start(self, name: str, attributes: Attributes) -> None:
        if self._skipped or name == "Fallback":
            self._skipped += 1
        elif name == "t":
            self._in_text = True
        elif name == "ph":
            self._kind = attributes.get("type", "")
        elif name == "br":
            self._line.append("\n")
        elif name == "tr":
            self._row = []

    def text(self, data: str) -> None:
        if self._in_text and not self._skipped:
            self._line.append(data)

    def end(self, name: str) -> None:
        if self._skipped:
            self._skipped -= 1
        elif name == "t":
            self._in_text = False
        elif name == "p":
            self._end_line("".join(self._line).strip())
        elif name == "tr" and self._row is not None:
            self._lines.append(" | ".join(self._row))
            self._row = None
        elif name in {"sp", "graphicFrame"}:
            self._end_shape()

    def _end_line(self, line: str) -> None:
        self._line = []
        if line:
            (self._lines if self._row is None else self._row).append(line)

    def _end_shape(self) -> None:
        text = "\n".join(self._lines)
        if text and self._kind in _TITLES:
            self.titles.append(text)
        elif text and self._kind not in _LEFT_OUT:
            self.texts.append(text)
        self._lines, self._kind = [], ""
