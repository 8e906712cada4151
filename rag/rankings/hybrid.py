"""By a weighted sum of cosine and BM25, each brought to 0 .. 1 over the candidates of the question.

    score = vector_weight x (cosine - least) / (largest - least)  +  (1 - vector_weight) x bm25 / largest bm25

Least and largest are those of the candidates: the nearest of them counts 1 by vector, the best by words 1 by words, a chunk with none of
the words 0 (which is what BM25 gives it, so it needs no least). Where all are equally near, each counts 1. Bruch, Gai and Ingber, "An
Analysis of Fusion Functions for Hybrid Retrieval", 2022, compare such sums with rank fusion. A score is of its question only.
"""

from __future__ import annotations

import numpy as np

from ..index import Numbers, Vector
from ..keywords import Keywords
from ..ranking import Pool, Scores, checked_bm25


class Hybrid:
    """`vector_weight`: 0 (words alone) to 1 (vectors alone). `k1`, `b`: of BM25."""

    uses_vectors = True
    coverage_weight: float | None = None

    def __init__(self, vector_weight: float = 0.5, k1: float = 1.2, b: float = 0.75) -> None:
        if not 0 <= vector_weight <= 1:
            raise ValueError(f"vector_weight must be from 0 to 1, got {vector_weight}")
        self._weight = float(vector_weight)
        self._k1, self._b = checked_bm25(k1, b)

    def words(self, keywords: Keywords, question: str, within: Numbers | None) -> Scores:
        return keywords.bm25(question, self._k1, self._b, within)

    def scores(self, pool: Pool) -> Vector:
        near, words = _spread(pool.cosines), pool.words / max(float(pool.words.max(initial=0)), 1e-9)
        return np.asarray(self._weight * near + (1 - self._weight) * words, np.float32)


def _spread(cosines: Vector) -> Vector:
    if not len(cosines) or cosines.max() == cosines.min():
        return np.ones_like(cosines)
    return np.asarray((cosines - cosines.min()) / (cosines.max() - cosines.min()), np.float32)
