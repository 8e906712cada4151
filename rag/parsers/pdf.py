"""PDF: the text layer, page by page, through PDFium.

PDFium is C++ and is given bytes from anywhere: that is why parsers run in processes that may die (`parse_pool.py`). What it
does not do: optical character recognition. A scan without a text layer is refused, with a reason, rather than indexed as
nothing.
"""

from __future__ import annotations

import re
from typing import Any

from ..blocks import Blocks
from ..errors import ParseError
from ..parser import Limits, Parsed
from ..parts import extra

_HYPHEN = re.compile(r"(?<=[a-zäöüß])[-\u00ad\ufffe\x02]\n(?=[a-zäöüß])")
_GAP = re.compile(r"\n[ \t]*\n\s*")


class Pdf:
    """Pages parted by blank lines, words cut at a line's end joined again; the metadata has `title` and `pages`.

    A chunk's place: `page`, counted from 1, and `page_end` where it ends on another.
    """

    def fingerprint(self) -> str:
        return f"pdf/2 pdfium {getattr(extra('pypdfium2'), 'PYPDFIUM_INFO', '')}"

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed:
        """Raises ParseError: broken, encrypted, without text; ParseLimitError: too many pages or characters."""
        limits.check_bytes(content)
        pdfium = extra("pypdfium2")
        try:
            document = pdfium.PdfDocument(content)
        except pdfium.PdfiumError as error:
            raise ParseError(_why(str(error))) from None
        try:
            return _parse(document, pdfium, limits)
        finally:
            document.close()


def _parse(document: Any, pdfium: Any, limits: Limits) -> Parsed:
    pages = len(document)
    limits.check_pages(pages)
    blocks = Blocks(limits)
    for number in range(pages):
        blocks.mark("page", number + 1)
        blocks.add(_page_text(document, number, pdfium))
    if not blocks.chars:
        raise ParseError(f"no text in {pages} pages: a scan? It needs optical character recognition first")
    title = str(document.get_metadata_dict().get("Title") or "").strip()
    return blocks.parsed({"pages": pages} | ({"title": title[:300]} if title else {}))


def _why(error: str) -> str:
    if "password" in error.lower():
        return "the PDF is encrypted, and no password is known here: give a copy without one"
    return f"not a readable PDF: {error}"


def _page_text(document: Any, number: int, pdfium: Any) -> str:
    try:
        raw = document[number].get_textpage().get_text_range()
    except pdfium.PdfiumError as error:
        raise ParseError(f"page {number + 1} cannot be read: {error}") from None
    text = raw.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    clean = text.encode("utf-8", "ignore").decode()  # lone surrogates come from broken fonts
    return _GAP.sub("\n\n", _HYPHEN.sub("", clean)).strip()
