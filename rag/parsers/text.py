"""Plain text: UTF-8 (with or without a byte order mark), UTF-16 with one, the charset the content type names, else Windows-1252.

What it does not do: guess languages or legacy charsets beyond Windows-1252, which decodes nearly anything into something.
Bytes with NULs that are not UTF-16 are refused, since that is no text.
"""

from __future__ import annotations

import codecs
import re

from ..errors import ParseError
from ..parser import Limits, Parsed

_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)
_CONTROL = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127])
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class TextParser:
    """Decodes, takes out control characters, makes every line end a newline."""

    def fingerprint(self) -> str:
        return "text/1"

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed:
        """Raises ParseError for bytes that are no text."""
        return Parsed(decoded(content, content_type, limits))


def decoded(content: bytes, content_type: str, limits: Limits) -> str:
    """The bytes as text, for every parser of a text format."""
    limits.check_bytes(content)
    text = _decode(content, content_type)
    limits.check_chars(len(text))
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROL)


def _decode(content: bytes, content_type: str) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    if b"\0" in content:
        raise ParseError("the bytes are no text (they hold a NUL); give the content type they have")
    for encoding in (*_CHARSET.findall(content_type)[:1], "utf-8"):
        try:
            return content.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return content.decode("cp1252", "replace")
