"""Cuts at the largest unit that fits: paragraphs, then lines, sentences, words, characters; joins small neighbours.

Where small pieces are joined, a boundary may depend on the pieces beside it only, never on the distance from the top, or
an inserted line would shift every boundary below it. So a chunk ends when the next piece does not fit, and also, once it is
half full, after any piece whose checksum is even: two versions of a text fall into step again a few pieces after an edit.
(Content-defined chunking, as rsync and LBFS do it: Muthitacharoen et al., "A low-bandwidth network file system", 2001.)
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final

_CUTS: Final = (
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"\n"),
    re.compile(r"(?<=[.!?…。！？])[\"')\]]*\s+"),
    re.compile(r"\s+"),
)
_JOINTS: Final = ("\n\n", "\n", " ", " ")


@dataclass(frozen=True, slots=True)
class Recursive:
    """`chars_max`: no chunk is longer (characters). `overlap_chars`: how much of a chunk's end the next begins with."""

    chars_max: int = 800
    overlap_chars: int = 0

    def __post_init__(self) -> None:
        if self.chars_max < 20:
            raise ValueError(f"chars_max must be at least 20, got {self.chars_max}")
        if not 0 <= self.overlap_chars <= self.chars_max // 2:
            raise ValueError(f"overlap_chars must be between 0 and half of chars_max, got {self.overlap_chars}")

    def fingerprint(self) -> str:
        return f"recursive/1 {self.chars_max} {self.overlap_chars}"

    def split(self, text: str) -> list[str]:
        chunks = _split(text.strip(), self.chars_max - self.overlap_chars - bool(self.overlap_chars), 0)
        return _overlapped(chunks, self.overlap_chars) if self.overlap_chars else chunks


def _split(text: str, chars_max: int, level: int) -> list[str]:
    if len(text) <= chars_max:
        return [text] if text else []
    if level == len(_CUTS):
        pieces = (text[start : start + chars_max].strip() for start in range(0, len(text), chars_max))
        return [piece for piece in pieces if piece]
    return _joined(_pieces(text, level), chars_max, level)


def _pieces(text: str, level: int) -> list[str]:
    """The text cut at every boundary of this level; what stands before the white space stays (a sentence its quote mark)."""
    ends = [(match.start(), match.end()) for match in _CUTS[level].finditer(text)]
    starts = [0, *(end for _, end in ends)]
    stops = [*(end for _, end in ends), len(text)]
    pieces = (text[start:stop].strip() for start, stop in zip(starts, stops, strict=True))
    return [piece for piece in pieces if piece]


def _joined(pieces: list[str], chars_max: int, level: int) -> list[str]:
    chunks: list[str] = []
    held: list[str] = []
    length = 0
    for piece in pieces:
        if held and length + len(_JOINTS[level]) + len(piece) > chars_max:
            chunks.append(_JOINTS[level].join(held))
            held, length = [], 0
        if len(piece) > chars_max:
            chunks += _split(piece, chars_max, level + 1)
            continue
        length += len(piece) + (len(_JOINTS[level]) if held else 0)
        held.append(piece)
        if length * 2 >= chars_max and zlib.crc32(piece.encode("utf-8", "surrogatepass")) % 2 == 0:
            chunks.append(_JOINTS[level].join(held))
            held, length = [], 0
    return [*chunks, _JOINTS[level].join(held)] if held else chunks


def _overlapped(chunks: list[str], chars: int) -> list[str]:
    """Each chunk led by whole words from the end of the one before it."""
    leads = ["", *(_end_of(chunk, chars) for chunk in chunks[:-1])]
    return [f"{lead} {chunk}" if lead else chunk for lead, chunk in zip(leads, chunks, strict=True)]


def _end_of(text: str, chars: int) -> str:
    end = text[-chars:]
    whole_words = end if len(text) <= chars or text[-chars - 1].isspace() else end.partition(" ")[2]
    return whole_words.strip()
