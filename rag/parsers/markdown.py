"""Markdown: kept as it is, since headings help both the splitter and the model; front matter becomes metadata.

Front matter is read as flat `name: value` lines and nothing more. A YAML parser for input from anywhere would have to be
kept from anchors, tags and types; a title and an author do not need one.
"""

from __future__ import annotations

import re

from ..headings import HeadingPath, headings
from ..parser import Limits, Parsed
from ..places import Mark
from .text import decoded

_FRONT = re.compile(r"\A---[ \t]*\n(.{0,8192}?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_PAIR = re.compile(r"(?m)^([A-Za-z_][\w-]{0,63}):[ \t]+(.{1,1024}?)[ \t]*$")
_TITLE = re.compile(r"(?m)^#[ \t]+(.{1,300}?)[ \t#]*$")


class MarkdownParser:
    """Takes out front matter and comments. A chunk's place: `heading`, the path of headings it stands under."""

    def fingerprint(self) -> str:
        return "markdown/2"

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed:
        """Raises ParseError for bytes that are no text."""
        text = decoded(content, content_type, limits)
        front = _FRONT.match(text)
        metadata = {name: value.strip("\"'") for name, value in _PAIR.findall(front[1])} if front else {}
        body = _without_comments(text[front.end() :] if front else text).strip()
        title = _TITLE.search(body)
        return Parsed(body, ({"title": title[1]} if title else {}) | metadata, heading_marks(body))


def heading_marks(text: str) -> list[Mark]:
    """Of Markdown."""
    path = HeadingPath()
    return [Mark(found.start, "heading", path.enter(found.level, found.title)) for found in headings(text)]


def _without_comments(text: str) -> str:
    kept, start = [], 0
    while (opened := text.find("<!--", start)) >= 0 and (closed := text.find("-->", opened)) >= 0:
        kept.append(text[start:opened])
        start = closed + 3
    return "".join([*kept, text[start:]])
