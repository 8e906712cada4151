"""Which parser reads a document: what its bytes say wins over what its type and its name say.

    %PDF-                             pdf, whatever it is called
    PNG, JPEG, GIF, TIFF, WebP        image
    PK, and word/, ppt/ or xl/        docx, pptx, xlsx
    a compound file                   refused: encrypted, or of before 2007
    other archives, programs, ...     refused, by name

Text has no such mark: it is read as its type and name say. A document that is called .pdf and is none goes to the PDF parser,
which says so. A parser that the settings name for a content type is used, whatever the bytes are.
"""

from __future__ import annotations

from typing import Final

from .errors import ParseError
from .office import OLD_OFFICE, old_office
from .parser import parser_for

_PDF_SEARCH_BYTES: Final = 16  # some writers put a few bytes before it
_OFFICE: Final = (("docx", b"word/document"), ("pptx", b"ppt/presentation"), ("xlsx", b"xl/workbook"))
_PICTURES: Final = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
_REFUSED: Final = (
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"BZh91AY&SY", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\0", "a program"),
    (b"{\\rtf", "a rich text file (.rtf); save it as .docx"),
)


def chosen_parser(content: bytes, content_type: str, uri: str) -> str:
    """Raises ParseError: what the bytes are cannot be read, or nothing says what they are."""
    seen = sniffed(content)
    if seen == "zip":
        named = _named(content_type, uri)
        if named in {name for name, _ in _OFFICE}:  # broken, or written in an unusual way: its parser will say
            return named
        raise ParseError(f"{uri!r} is a zip archive; put the documents in it one by one")
    return seen or parser_for(content_type, uri)


def sniffed(content: bytes) -> str:
    """The parser that the first bytes ask for; empty where they ask for none, "zip" for an archive that is no document."""
    if content.startswith(OLD_OFFICE):
        raise ParseError(old_office(content))
    for mark, what in _REFUSED:
        if content.startswith(mark):
            raise ParseError(f"the document is {what}, which is not read")
    if content.startswith(b"PK\x03\x04"):
        return next((name for name, mark in _OFFICE if mark in content), "zip")
    if content.startswith(_PICTURES) or (content.startswith(b"RIFF") and content[8:12] == b"WEBP"):
        return "image"
    return "pdf" if b"%PDF-" in content[:_PDF_SEARCH_BYTES] else ""


def _named(content_type: str, uri: str) -> str:
    try:
        return parser_for(content_type, uri)
    except ParseError:
        return ""
