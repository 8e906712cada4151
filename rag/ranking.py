"""In which order candidates come. One ranking, one file in `rankings/`, named in YAML by the file's name.

    question -> the best `pool_chunks` by vector, and as many by words -> one score for each of them -> the best k

An index (`index.py`) holds vectors and finds the nearest; a ranking says whether it is asked, how words are weighed, and how the two
come together. It sees numbers and scores, no chunks, and waits for nothing. The contract suite is `tests/contracts/test_rankings.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .index import Numbers, Vector
from .keywords import Keywords
from .parts import part_named
from .settings import RetrievalSettings

Scores = tuple[Numbers, Vector]
"""Numbers, ascending, and a score for each."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The candidates of one question, each once."""

    numbers: Numbers
    """Ascending; the arrays beside it are in their order."""
    cosines: Vector
    """With the question's vector; zeros where no vectors are used."""
    words: Vector
    """What `Ranking.words` gave them; 0 where they hold none of the question's words."""
    near: Numbers
    """The best by vector, the nearest first."""
    worded: Numbers
    """The best by words, the best first."""
    sigma: float
    """Standard deviation of the cosine between stored chunks."""


class Ranking(Protocol):
    """Made once, asked for every question; keeps nothing of any."""

    @property
    def uses_vectors(self) -> bool:
        """False: the question is not embedded, and the vector index is not asked."""
        ...

    @property
    def coverage_weight(self) -> float | None:
        """The score is cosine / sigma + this x coverage, by which standing questions know what cannot concern them; None: it is not."""
        ...

    def words(self, keywords: Keywords, question: str, within: Numbers | None) -> Scores:
        """All chunks that hold a word of the question, or none where words do not count. `within`: as if there were no others."""
        ...

    def scores(self, pool: Pool) -> Vector:
        """Of the pool's numbers; larger is better."""
        ...


def made_ranking(settings: RetrievalSettings) -> Ranking:
    """The part named; `coverage` with the weight of the settings, unless it has one of its own. Raises PartError."""
    usual = {"weight": settings.coverage_weight} if settings.ranking.name == "coverage" else {}
    made: Ranking = part_named("ranking", settings.ranking.name, usual | dict(settings.ranking.options))
    return made


def no_words() -> Scores:
    return np.zeros(0, np.int64), np.zeros(0, np.float32)


def checked_bm25(k1: float, b: float) -> tuple[float, float]:
    """Raises ValueError where they make no sense."""
    if k1 < 0 or not 0 <= b <= 1:
        raise ValueError(f"k1 must be 0 or more and b from 0 to 1, got {k1} and {b}")
    return float(k1), float(b)
