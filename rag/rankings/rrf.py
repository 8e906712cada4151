"""By the places that a chunk has by vector and by BM25: sum of 1 / (constant + place), places from 1, over the lists it is in.

Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods", SIGIR 2009, with
their constant of 60. A list is the best `pool_chunks`. Scores say nothing but the order: the best there can be is 2 / 61.
"""

from __future__ import annotations

import numpy as np

from ..index import Numbers, Vector
from ..keywords import Keywords
from ..ranking import Pool, Scores, checked_bm25


class Rrf:
    """`constant`: the larger, the less the first places stand out. `k1`, `b`: of BM25."""

    uses_vectors = True
    coverage_weight: float | None = None

    def __init__(self, constant: int = 60, k1: float = 1.2, b: float = 0.75) -> None:
        if constant < 1:
            raise ValueError(f"constant must be at least 1, got {constant}")
        self._constant = constant
        self._k1, self._b = checked_bm25(k1, b)

    def words(self, keywords: Keywords, question: str, within: Numbers | None) -> Scores:
        return keywords.bm25(question, self._k1, self._b, within)

    def scores(self, pool: Pool) -> Vector:
        scores = np.zeros(len(pool.numbers), np.float64)
        for ranked in (pool.near, pool.worded):
            scores[np.searchsorted(pool.numbers, ranked)] += 1 / (self._constant + 1 + np.arange(len(ranked)))
        return scores.astype(np.float32)
