"""Whole sentences: up to so many of them, as far as they fit; a sentence that does not fit alone is cut at its lines and words.

Where a chunk ends is decided as in `rag/cutting.py`, so an edit moves few boundaries. A sentence ends at a full stop, question
or exclamation mark before white space, and at a blank line; "e.g. this" is two.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..cutting import is_boundary, join_as_written, joint_between, sentences
from ..splitter import Piece


@dataclass(frozen=True, slots=True)
class Sentences:
    """`sentences_max` in a chunk, and no more than `chars_max` characters."""

    sentences_max: int = 8
    chars_max: int = 800

    def __post_init__(self) -> None:
        if self.sentences_max < 1:
            raise ValueError(f"sentences_max must be at least 1, got {self.sentences_max}")
        if self.chars_max < 20:
            raise ValueError(f"chars_max must be at least 20, got {self.chars_max}")

    def fingerprint(self) -> str:
        return f"sentences/1 {self.sentences_max} {self.chars_max}"

    def split(self, text: str) -> list[Piece]:
        chunks: list[Piece] = []
        held: list[Piece] = []
        filled = 0
        for sentence in sentences(text, self.chars_max):
            joint = joint_between(text, held[-1], sentence) if held else ""
            grown = filled + len(joint) + len(sentence.text)
            if held and grown > self.chars_max:
                chunks.append(join_as_written(text, held))
                held, grown = [], len(sentence.text)
            held.append(sentence)
            filled = grown
            if len(held) == self.sentences_max or (self._is_half_full(len(held), filled) and is_boundary(sentence)):
                chunks.append(join_as_written(text, held))
                held, filled = [], 0
        return [*chunks, join_as_written(text, held)] if held else chunks

    def _is_half_full(self, count: int, chars: int) -> bool:
        return count * 2 >= self.sentences_max or chars * 2 >= self.chars_max
