"""Many outcomes -> the figures of one configuration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .run import Judged
from .scores import quantile


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over the questions that can be judged; None where there are none. Times in milliseconds a question."""

    name: str
    questions: int
    recall_1: float | None
    recall_5: float | None
    mrr: float | None
    ndcg: float | None
    exact: float | None
    f1: float | None
    right: float | None
    refused: float
    """Share of all questions that got no answer."""
    refused_wrongly: float | None
    """Share of the questions that have an answer."""
    invented: float | None
    """Share of the questions that have none, and were answered."""
    errors: int
    rounds: float
    """Calls of the model a question."""
    prompt_tokens: float
    completion_tokens: float
    cost: float | None
    """Of all questions together; None: the price is not known."""
    p50_ms: float
    p95_ms: float


def summary(name: str, outcomes: Sequence[Judged]) -> Summary:
    answers = [one.answer for one in outcomes]
    took = [one.took_ms for one in outcomes]
    costs = [answer.cost for answer in answers if answer.cost is not None]
    return Summary(
        name=name,
        questions=len(outcomes),
        recall_1=mean(one.recall(1) for one in outcomes),
        recall_5=mean(one.recall(5) for one in outcomes),
        mrr=mean(one.reciprocal_rank for one in outcomes),
        ndcg=mean(one.ndcg for one in outcomes),
        exact=mean(one.exact for one in outcomes),
        f1=mean(one.f1 for one in outcomes),
        right=mean(one.right for one in outcomes),
        refused=mean(float(answer.no_answer) for answer in answers) or 0.0,
        refused_wrongly=mean(float(one.answer.no_answer) for one in outcomes if one.case.answers),
        invented=mean(float(one.answer.answer is not None) for one in outcomes if one.case.is_unanswerable),
        errors=sum(answer.error is not None for answer in answers),
        rounds=mean(float(answer.rounds) for answer in answers) or 0.0,
        prompt_tokens=mean(float(answer.tokens.prompt) for answer in answers) or 0.0,
        completion_tokens=mean(float(answer.tokens.completion) for answer in answers) or 0.0,
        cost=sum(costs) if costs else None,
        p50_ms=quantile(took, 0.5),
        p95_ms=quantile(took, 0.95),
    )


def mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
