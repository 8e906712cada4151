"""Figures of several configurations beside each other, as text: a row a figure, a column a configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ...rag.evaluation.calibrate import Calibration
from ...rag.evaluation.summary import Summary

Show = Callable[[Summary], str]

_NONE: Final = "-"


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


ROWS: Final[Sequence[tuple[str, Show]]] = (
    ("questions", lambda one: str(one.questions)),
    ("R@1", lambda one: _share(one.recall_1)),
    ("R@5", lambda one: _share(one.recall_5)),
    ("MRR", lambda one: _share(one.mrr)),
    ("nDCG@10", lambda one: _share(one.ndcg)),
    ("right", lambda one: _share(one.right)),
    ("exact match", lambda one: _share(one.exact)),
    ("F1", lambda one: _share(one.f1)),
    ("refused", lambda one: _share(one.refused)),
    ("refused wrongly", lambda one: _share(one.refused_wrongly)),
    ("invented", lambda one: _share(one.invented)),
    ("errors", lambda one: str(one.errors)),
    ("calls of the model", lambda one: f"{one.rounds:.2f}"),
    ("prompt tokens", lambda one: f"{one.prompt_tokens:.0f}"),
    ("answer tokens", lambda one: f"{one.completion_tokens:.0f}"),
    ("cost", lambda one: _NONE if one.cost is None else f"{one.cost:.4f}"),
    ("p50 ms", lambda one: f"{one.p50_ms:.1f}"),
    ("p95 ms", lambda one: f"{one.p95_ms:.1f}"),
)


def as_table(summaries: Sequence[Summary]) -> str:
    rows = [["", *(one.name for one in summaries)]]
    rows += [[name, *(show(one) for one in summaries)] for name, show in ROWS]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def as_calibration(found: Calibration) -> str:
    evidence = found.evidence
    numbers = f"{{best: {evidence.best:.3g}, gap: {evidence.gap:.3g}, intercept: {evidence.intercept:.3g}}}"
    advice = found.doubt or "posterior: true is worth trying with it, where the model gives log-probabilities"
    return f"evidence: {numbers}\nAUC {found.auc:.3f} over {found.rows} rows\n{advice}\n"
