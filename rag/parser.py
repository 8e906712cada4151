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

    def check_pages(self, pages: int) -> None:
        if pages > self.pages_max:
            raise ParseLimitError(f"the document has {pages} pages, at most {self.pages_max} (pages_max)")


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


_BY_TYPE: Final[Mapping[str, str]] = {
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/pdf": "pdf",
    "application/json": "text",
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
    "txt": "text",
    "text": "text",
    "rst": "text",
    "log": "text",
}


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
    if ending in _BY_ENDING and kind in {"", "text/plain", "application/octet-stream"}:
        return _BY_ENDING[ending]
    if kind.startswith("text/"):
        return "text"
    raise ParseError(
        f"no parser for content type {content_type!r} of {uri!r}; "
        f"give a known one ({', '.join(sorted(_BY_TYPE))}, text/*) or name a parser for it in `parsers`"
    )
