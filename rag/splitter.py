"""A document's text -> the texts of its chunks. One splitter, one file in `splitters/`.

Two things make a good splitter here. A chunk should be about one thing and not much longer than the embedder reads (800
characters without overlap was best of 300 to 2,000 on XQuAD). And an edit should change few chunks: a splitter that fills
chunks greedily from the top moves every boundary below an inserted line, and everything is embedded again. The contract
suite `tests/contracts/test_splitters.py` holds both.
"""

from __future__ import annotations

from typing import Protocol


class Splitter(Protocol):
    """Deterministic and stateless."""

    def fingerprint(self) -> str:
        """Changes when the same text gives other chunks."""
        ...

    def split(self, text: str) -> list[str]:
        """Non-blank texts in their order, none longer than the splitter's limit, together all that is not white space."""
        ...
