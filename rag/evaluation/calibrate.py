"""Fits the evidence E of `adaptive.py` to a corpus: from the scores of a question's hits to the log-odds that they hold its answer.

Each question whose document is known gives two rows: its hits as they are (1), and with the chunks of its documents taken out of
the index (0), which is what a question looks like that no document answers; a question marked as unanswerable gives one (0).
Logistic regression by iteratively reweighted least squares, with a small ridge so that separable rows have an end. The AUC is
over the same rows: with three numbers fitted to hundreds of rows it is hardly flattered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..adaptive import Evidence
from ..ask import Asking
from ..messages import Query
from ..retrieve import Retriever
from ..settings import AnswerSettings
from .cases import Case
from .corpus import Corpus

_RIDGE: Final = 1e-3
_STEPS_MAX: Final = 50
_SETTLED: Final = 1e-8
AUC_MIN: Final = 0.85
"""Below it the posterior could force invented answers (.93-.96 on XQuAD, where it helped; .70 on an FAQ set)."""

ROWS_MIN: Final = 100
"""With fewer, three numbers fit anything."""

Row = tuple[float, float, bool]
"""The best score, the gap to the second, and whether the answer is there."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted, and how well it parts questions that are answerable from those that are not (AUC, .5 to 1)."""

    evidence: Evidence
    auc: float
    rows: int

    @property
    def doubt(self) -> str:
        """Why the posterior rule should stay off with it; "": nothing speaks against trying it."""
        if self.rows < ROWS_MIN:
            return f"fewer than {ROWS_MIN} rows: ask more questions before the posterior is tried with it"
        if self.auc < AUC_MIN:
            return f"AUC below {AUC_MIN}: scores do not tell whether the answer is there, leave the posterior off"
        return ""


async def rows_of(cases: Sequence[Case], corpus: Corpus, settings: AnswerSettings) -> AsyncIterator[Row]:
    """Raises PartError, EmbeddingError, ModelError (a reranker that is one)."""
    asking = Asking(settings, corpus.embedder)
    retriever = Retriever(corpus.view, settings.retrieval)
    try:
        for case in cases:
            if case.documents or case.is_unanswerable:
                yield await _row(case, frozenset(), asking, retriever, answerable=not case.is_unanswerable)
            if case.documents and not case.is_unanswerable:
                yield await _row(case, case.documents, asking, retriever, answerable=False)
    finally:
        await asking.close()


async def _row(case: Case, without: frozenset[str], asking: Asking, retriever: Retriever, *, answerable: bool) -> Row:
    query = Query(case.id, case.question, strategy="adaptive")
    hits = (await asking.found(query, retriever, without)).hits
    scores = [hit.score for hit in hits] or [0.0]
    return scores[0], scores[0] - scores[1] if len(scores) > 1 else 0.0, answerable


def calibrated(rows: Sequence[Row]) -> Calibration:
    """Raises ValueError where all rows say the same: there is nothing to tell apart."""
    answerable = np.array([row[2] for row in rows], np.float64)
    if not len(rows) or answerable.min() == answerable.max():
        raise ValueError(
            "calibrating needs questions that name their `document`, or both answerable and unanswerable ones"
        )
    features = np.array([[row[0], row[1], 1.0] for row in rows])
    best, gap, intercept = fitted(features, answerable)
    return Calibration(
        Evidence(float(best), float(gap), float(intercept)),
        auc(features @ np.array([best, gap, intercept]), answerable > 0),
        len(rows),
    )


def fitted(features: NDArray[np.float64], answerable: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of a logistic regression; the columns are scaled within, so that the ridge weighs them alike."""
    scale = np.maximum(np.abs(features).max(axis=0), 1e-12)
    scaled = features / scale
    weights = np.zeros(features.shape[1])
    penalty = np.eye(features.shape[1]) * _RIDGE
    for _ in range(_STEPS_MAX):
        likely = 1 / (1 + np.exp(-np.clip(scaled @ weights, -30, 30)))
        spread = likely * (1 - likely)
        gradient = scaled.T @ (answerable - likely) - penalty @ weights
        step = np.linalg.solve(scaled.T @ (scaled * spread[:, None]) + penalty, gradient)
        weights = weights + step * min(1.0, 5.0 / max(1e-12, float(np.abs(step).max())))
        if float(np.abs(step).max()) < _SETTLED:
            break
    found: NDArray[np.float64] = weights / scale
    return found


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The chance that a positive scores above a negative, ties counted half (Mann and Whitney)."""
    highs, lows = scores[positive], scores[~positive]
    above = (highs[:, None] > lows[None, :]).mean()
    return float(above + 0.5 * (highs[:, None] == lows[None, :]).mean())
