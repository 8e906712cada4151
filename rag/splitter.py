"""A document's text -> its chunks, each with where it stood. One splitter, one file in `splitters/`.

Two things make a good splitter here. A chunk should be about one thing and not much longer than the embedder reads (800
characters without overlap was best of 300 to 2,000 on XQuAD). And an edit should change few chunks: a splitter that fills
chunks greedily from the top moves every boundary below an inserted line, and everything is embedded again. The contract
suite `tests/contracts/test_splitters.py` holds both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk's text, and the half-open range of characters it stands for. White space between its parts may have changed."""

    text: str
    start: int
    """Of what is new in it: an overlap with the chunk before does not count."""
    stop: int
    parent: str = ""
    """What the language model is shown in its place, where that is more than the chunk."""


class Splitter(Protocol):
    """Deterministic and stateless. Made and used in a parsing process, with the limits and without the environment of that."""

    def fingerprint(self) -> str:
        """Changes when the same text gives other chunks."""
        ...

    def split(self, text: str) -> list[Piece]:
        """Not blank, in their order, none longer than the splitter's limit, together all that is not white space.

        Raises ParseError where the text cannot be split.
        """
        ...
