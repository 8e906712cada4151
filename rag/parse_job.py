"""What a parsing process is asked and what it answers, and the frames in which both travel.

    job     u32 length, JSON {"parser", "parser_options", "splitter", "splitter_options", "content_type", "limits"},
            u64 length, the document's bytes
    reply   u32 length, JSON {"chunks": [...], "metadata": {...}, "places": [...], "parents": [...]} or
            {"error": "...", "limit": bool};
            none and exit status OUT_OF_MEMORY where memory ran out

Lengths are little-endian. Imports nothing beyond the standard library and orjson: a parsing process starts in a fraction of a
second and its memory limit is left for the document.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson

from .errors import ParseError, ParseLimitError
from .parser import Limits

HEADER: Final = struct.Struct("<I")
BODY: Final = struct.Struct("<Q")
OUT_OF_MEMORY: Final = 3


@dataclass(frozen=True, slots=True)
class Part:
    """A part by its name, and its options: how it travels to a parsing process."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ParseJob:
    """One document to be parsed and split."""

    content: bytes
    content_type: str
    parser: Part
    splitter: Part
    limits: Limits = Limits()

    def frame(self) -> bytes:
        header = orjson.dumps(
            {
                "parser": self.parser.name,
                "parser_options": dict(self.parser.options),
                "splitter": self.splitter.name,
                "splitter_options": dict(self.splitter.options),
                "content_type": self.content_type,
                "limits": asdict(self.limits),
            }
        )
        return b"".join((HEADER.pack(len(header)), header, BODY.pack(len(self.content)), self.content))

    @classmethod
    def read(cls, header: bytes, content: bytes) -> ParseJob:
        given = orjson.loads(header)
        return cls(
            content,
            given["content_type"],
            Part(given["parser"], given["parser_options"]),
            Part(given["splitter"], given["splitter_options"]),
            Limits(**given["limits"]),
        )


@dataclass(frozen=True, slots=True)
class Pieces:
    """A document parsed and split."""

    chunks: list[str]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    places: Sequence[Mapping[str, Any]] = ()
    """Of each chunk: page, sheet, heading, ... Empty where the format has none."""
    parents: Sequence[str] = ()
    """Of each chunk, what is shown in its place. Empty where the splitter gives none."""


def reply_frame(outcome: Pieces | ParseError) -> bytes:
    if isinstance(outcome, ParseError):
        body: dict[str, Any] = {"error": str(outcome), "limit": isinstance(outcome, ParseLimitError)}
    else:
        body = {
            "chunks": outcome.chunks,
            "metadata": dict(outcome.metadata),
            "places": list(outcome.places),
            "parents": list(outcome.parents),
        }
    data = orjson.dumps(body)
    return HEADER.pack(len(data)) + data


def read_reply(data: bytes) -> Pieces:
    """Raises the ParseError it tells of."""
    body = orjson.loads(data)
    if "error" in body:
        raise (ParseLimitError if body["limit"] else ParseError)(body["error"])
    return Pieces(body["chunks"], body["metadata"], body["places"], body["parents"])
