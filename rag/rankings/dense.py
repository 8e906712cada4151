"""By vector alone: cosine / sigma, so that rerankers and thresholds find the scale they know from `coverage`."""

from __future__ import annotations

import numpy as np

from ..index import Numbers, Vector
from ..keywords import Keywords
from ..ranking import Pool, Scores, no_words


class Dense:
    """Words do not count."""

    uses_vectors = True
    coverage_weight: float | None = 0.0

    def words(self, keywords: Keywords, question: str, within: Numbers | None) -> Scores:
        return no_words()

    def scores(self, pool: Pool) -> Vector:
        return np.asarray(pool.cosines / pool.sigma, np.float32)
