"""By vector and by the share of the question's weight that a chunk holds: s1 = cosine / sigma + weight x coverage.

The default, and the rule for all corpora with no labels: sigma, the standard deviation of the cosine between stored chunks, makes one
weight fit every embedder, and coverage ignores how often a term occurs and how long a chunk is, so that a paraphrase loses little.
"""

from __future__ import annotations

import numpy as np

from ..index import Numbers, Vector
from ..keywords import Keywords
from ..ranking import Pool, Scores


class Coverage:
    """`weight`: what a chunk is given that has all words of the question, in standard deviations of the cosine."""

    uses_vectors = True

    def __init__(self, weight: float = 2.5) -> None:
        if weight < 0:
            raise ValueError(f"weight must not be negative, got {weight}")
        self.coverage_weight: float | None = float(weight)
        self._weight = float(weight)

    def words(self, keywords: Keywords, question: str, within: Numbers | None) -> Scores:
        return keywords.coverage(question, within)

    def scores(self, pool: Pool) -> Vector:
        return np.asarray(pool.cosines / pool.sigma + self._weight * pool.words, np.float32)
