"""Cuts at the largest unit that fits: paragraphs, then lines, sentences, words, characters; joins small neighbours.

How, and why an edit moves few boundaries: `rag/cutting.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..cutting import cut
from ..splitter import Piece


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

    def split(self, text: str) -> list[Piece]:
        chunks = cut(text, self.chars_max - self.overlap_chars - bool(self.overlap_chars))
        return _overlapped(chunks, self.overlap_chars) if self.overlap_chars else chunks


def _overlapped(chunks: list[Piece], chars: int) -> list[Piece]:
    """Each chunk led by whole words from the end of the one before it."""
    leads = ["", *(_end_of(chunk.text, chars) for chunk in chunks[:-1])]
    return [
        replace(chunk, text=f"{lead} {chunk.text}") if lead else chunk
        for lead, chunk in zip(leads, chunks, strict=True)
    ]


def _end_of(text: str, chars: int) -> str:
    end = text[-chars:]
    whole_words = end if len(text) <= chars or text[-chars - 1].isspace() else end.partition(" ")[2]
    return whole_words.strip()
