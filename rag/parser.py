"""Bytes of one document -> its text. One parser, one file in `parsers/`.

Parsers run in processes of their own (`parse_pool.py`), with limits in time and memory, because documents come from anywhere:
a parser may be slow, hungry or crash, and the worker lives on. They are plain functions of the bytes and know no limits but
those in `Limits`, which cut a document short *before* its text is made. The contract suite is `tests/contracts/test_parsers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from .errors import ParseError, ParseLimitError
from .places import Mark


@dataclass(frozen=True, slots=True)
class Limits:
    """How large one document may be."""

    content_bytes_max: int = 20 << 20
    pages_max: int = 2_000
    text_chars_max: int = 10_000_000
    chunks_max: int = 20_000
    archive_bytes_max: int = 200 << 20
    """Of everything in an office file (a zip archive), unpacked."""
    archive_members_max: int = 10_000
    cell_chars_max: int = 100_000
    """Of one cell of a table; an unclosed quote in CSV makes the rest of the file one cell."""
    depth_max: int = 200
    """Of nested JSON values and XML elements."""
    attachments_max: int = 100
    """Of one e-mail, and of its multipart bodies."""
    attachments_depth_max: int = 3
    """An e-mail in an e-mail in an e-mail, each as an attachment."""

    def check_bytes(self, content: bytes) -> None:
        if len(content) > self.content_bytes_max:
            raise ParseLimitError(
                f"the document has {len(content)} bytes, at most {self.content_bytes_max} (content_bytes_max)"
            )

    def check_chars(self, chars: int) -> None:
        if chars > self.text_chars_max:
            raise ParseLimitError(f"the text has more than {self.text_chars_max} characters (text_chars_max)")

    def check_chunks(self, chunks: int) -> None:
        if chunks > self.chunks_max:
            raise ParseLimitError(f"the document has {chunks} chunks, at most {self.chunks_max} (chunks_max)")

    def check_cell(self, text: str) -> str:
        if len(text) > self.cell_chars_max:
            raise ParseLimitError(f"a cell has more than {self.cell_chars_max} characters (cell_chars_max)")
        return text

    def check_depth(self, depth: int, what: str) -> None:
        if depth > self.depth_max:
            raise ParseLimitError(f"{what} are nested deeper than {self.depth_max} (depth_max)")

    def check_pages(self, pages: int, what: str = "pages") -> None:
        if pages > self.pages_max:
            raise ParseLimitError(f"the document has {pages} {what}, at most {self.pages_max} (pages_max)")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser found."""

    text: str
    """Paragraphs parted by blank lines; headings as in Markdown where the format has them."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the document says of itself (`title`). The message's own metadata wins."""
    marks: Sequence[Mark] = ()
    """Where in the text a page, a sheet, a heading, ... begins; in the order of the text."""


class Parser(Protocol):
    """Stateless. `parse` raises ParseError for what it cannot read, and nothing else if it can help it."""

    def fingerprint(self) -> str:
        """Changes when the same bytes give another text."""
        ...

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed: ...


_OFFICE = "application/vnd.openxmlformats-officedocument."

_BY_TYPE: Final[Mapping[str, str]] = {
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/pdf": "pdf",
    f"{_OFFICE}wordprocessingml.document": "docx",
    "application/vnd.ms-word.document.macroenabled.12": "docx",
    f"{_OFFICE}presentationml.presentation": "pptx",
    "application/vnd.ms-powerpoint.presentation.macroenabled.12": "pptx",
    f"{_OFFICE}presentationml.slideshow": "pptx",
    f"{_OFFICE}spreadsheetml.sheet": "xlsx",
    "application/vnd.ms-excel.sheet.macroenabled.12": "xlsx",
    "text/csv": "csv",
    "application/vnd.ms-excel": "csv",  # as Windows calls it; .xls itself is refused by its first bytes
    "text/tab-separated-values": "csv",
    "application/json": "json",
    "application/jsonl": "json",
    "application/x-ndjson": "json",
    "message/rfc822": "email",
    "audio/mpeg": "audio",
    "audio/mp4": "audio",
    "audio/ogg": "audio",
    "audio/flac": "audio",
    "audio/webm": "audio",
    "audio/wav": "audio",
    "audio/x-wav": "audio",
    "image/png": "image",
    "image/jpeg": "image",
    "image/gif": "image",
    "image/tiff": "image",
    "image/webp": "image",
    "image/bmp": "image",
    "application/xml": "text",
    "application/x-yaml": "text",
}
_BY_ENDING: Final[Mapping[str, str]] = {
    "md": "markdown",
    "markdown": "markdown",
    "html": "html",
    "htm": "html",
    "xhtml": "html",
    "pdf": "pdf",
    "docx": "docx",
    "docm": "docx",
    "pptx": "pptx",
    "pptm": "pptx",
    "ppsx": "pptx",
    "xlsx": "xlsx",
    "xlsm": "xlsx",
    "csv": "csv",
    "tsv": "csv",
    "json": "json",
    "jsonl": "json",
    "ndjson": "json",
    "eml": "email",
    "mp3": "audio",
    "m4a": "audio",
    "ogg": "audio",
    "flac": "audio",
    "wav": "audio",
    "png": "image",
    "jpg": "image",
    "jpeg": "image",
    "gif": "image",
    "tif": "image",
    "tiff": "image",
    "webp": "image",
    "bmp": "image",
    "txt": "text",
    "text": "text",
    "rst": "text",
    "log": "text",
}

_KINDS_OF_TEXT: Final = frozenset({"csv", "email", "html", "json", "markdown", "text"})
"""What is told to be plain text may be more than that, as its ending says; it is no PDF."""


def parser_for(content_type: str, uri: str, chosen: Mapping[str, str] | None = None) -> str:
    """The parser's name for a document, by its content type, else by its ending. `chosen` overrules by content type.

    Raises ParseError naming both where neither is known.
    """
    kind = content_type.partition(";")[0].strip().lower()
    ending = uri.rpartition("/")[2].partition("?")[0].rpartition(".")[2].lower()
    if chosen and kind in chosen:
        return chosen[kind]
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    named = _BY_ENDING.get(ending, "")
    if named and (kind in {"", "application/octet-stream"} or (kind == "text/plain" and named in _KINDS_OF_TEXT)):
        return named
    if kind.startswith("text/"):
        return "text"
    raise ParseError(
        f"no parser for content type {content_type!r} of {uri!r}; "
        f"give a known one ({', '.join(sorted(_BY_TYPE))}, text/*) or name a parser for it in `parsers`"
    )
