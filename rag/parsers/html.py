"""HTML: the text a reader sees, block by block, headings and list items as in Markdown.

On the standard library's tokenizer, which makes no tree: a million open tags cost no memory and no recursion. What it does
not do: run scripts, load anything, or tell an article from the menu around it beyond leaving out nav, script, style, forms.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

from ..blocks import Blocks
from ..parser import Limits, Parsed
from .text import decoded

_SKIPPED: Final = frozenset({"script", "style", "nav", "noscript", "template", "svg", "form", "iframe", "object"})
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_BLOCKS: Final = frozenset(
    "address article aside blockquote body dd div dl dt figcaption figure footer header hr li main ol p pre section table tr ul "
    "h1 h2 h3 h4 h5 h6".split()
)
_CELLS: Final = frozenset({"td", "th"})
_SPACE = re.compile(r"[ \t\n\f\xa0]+")
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([\w-]{1,40})", re.IGNORECASE)


class Html:
    """Visible text; the metadata has the page's `title`. A chunk's place: `heading`, the path of headings it stands under."""

    def fingerprint(self) -> str:
        return "html/2"

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed:
        """Raises ParseError for bytes that are no text."""
        named = _META_CHARSET.search(content[:4096])
        declared = content_type if "charset" in content_type.lower() or not named else f"charset={named[1].decode()}"
        reader = _Reader(Blocks(limits))
        reader.feed(decoded(content, declared, limits))
        reader.close()
        reader.end_block()
        title = _SPACE.sub(" ", "".join(reader.title)).strip()
        return reader.blocks.parsed({"title": title[:300]} if title else {})


class _Reader(HTMLParser):
    """Collects blocks of text."""

    def __init__(self, blocks: Blocks) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks = blocks
        self.title: list[str] = []
        self._parts: list[str] = []
        self._prefix = ""
        self._level = 0
        self._skipped: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SKIPPED:
            self._skipped.append(tag)
        elif tag == "title" and not self._skipped:
            self._in_title = True
        elif tag == "br":
            self._parts.append("\n")
        elif tag in _BLOCKS:
            self.end_block()
            self._prefix, self._level = "- " if tag == "li" else "", _HEADINGS.get(tag, 0)
        elif tag in _CELLS and self._parts:
            self._parts.append(" | ")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._skipped:  # ends it and what was left open inside
            while self._skipped.pop() != tag:
                pass
        elif tag == "title":
            self._in_title = False
        elif tag in _BLOCKS:
            self.end_block()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _SKIPPED:
            self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        if self._skipped:
            return
        (self.title if self._in_title else self._parts).append(_SPACE.sub(" ", data))

    def end_block(self) -> None:
        lines = (_SPACE.sub(" ", line).strip() for line in "".join(self._parts).split("\n"))
        text = "\n".join(line for line in lines if line)
        if text and self._level:
            self.blocks.heading(self._level, text)
        elif text:
            self.blocks.add(self._prefix + text)
        self._parts.clear()
        self._prefix, self._level = "", 0
