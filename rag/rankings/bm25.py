"""By words alone: Okapi BM25. No vectors are looked at, and the question is not embedded.

    sum over the question's terms of  idf x tf (k1 + 1) / (tf + k1 (1 - b + b x length / mean length)),    idf as in `keywords.py`

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009; idf with the 1 within the logarithm, as Lucene
has it, so that a term in most chunks does not count against them. A term that the question says twice counts once.
"""

from __future__ import annotations

from ..index import Numbers, Vector
from ..keywords import Keywords
from ..ranking import Pool, Scores, checked_bm25


class Bm25:
    """`k1`: how much it adds that a term comes again; `b`: how far a long chunk is held to its length, 0 to 1."""

    uses_vectors = False
    coverage_weight: float | None = None

    def __init__(self, k1: float = 1.2, b: float = 0.75) -> None:
        self._k1, self._b = checked_bm25(k1, b)

    def words(self, keywords: Keywords, question: str, within: Numbers | None) -> Scores:
        return keywords.bm25(question, self._k1, self._b, within)

    def scores(self, pool: Pool) -> Vector:
        return pool.words
