"""How right: rankings and answers, each as a number from 0 to 1. Plain functions.

Answers are compared as SQuAD does it (Rajpurkar et al., 2016): lower case, no articles, no punctuation; the marks of citations,
[1], are not part of an answer. Exact match and F1 over words are with the best of the expected answers. `held` is whether an
expected answer stands in what was said: a model that answers in sentences has a low F1 and may be right all the same.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_CITED = re.compile(r"\[\d[\d\s,;]*\]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_WORD = re.compile(r"[^\w\s]|_")


def words(text: str) -> list[str]:
    plain = _NO_WORD.sub(" ", _CITED.sub(" ", text).lower())
    return _ARTICLES.sub(" ", plain).split()


def exact_match(said: str, expected: Sequence[str]) -> float:
    return float(any(words(said) == words(one) for one in expected))


def f1(said: str, expected: Sequence[str]) -> float:
    return max((_f1(words(said), words(one)) for one in expected), default=0.0)


def held(said: str, expected: Sequence[str]) -> float:
    text = f" {' '.join(words(said))} "
    return float(any(f" {' '.join(words(one))} " in text for one in expected if words(one)))


def _f1(said: Sequence[str], expected: Sequence[str]) -> float:
    common = sum((Counter(said) & Counter(expected)).values())
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(expected)
    return 2 * precision * recall / (precision + recall)


def recall_at(relevant: Sequence[bool], k: int) -> float:
    """Whether one of the first k is right."""
    return float(any(relevant[:k]))


def reciprocal_rank(relevant: Sequence[bool]) -> float:
    return next((1.0 / rank for rank, right in enumerate(relevant, 1) if right), 0.0)


def ndcg(relevant: Sequence[bool], there_are: int) -> float:
    """`there_are`: right ones in all, as far as is known. Gain 1 each, discount log2(rank + 1) (Järvelin and Kekäläinen, 2002)."""
    gained = sum(_discount(rank) for rank, right in enumerate(relevant, 1) if right)
    most = sum(_discount(rank) for rank in range(1, min(max(there_are, 1), max(len(relevant), 1)) + 1))
    return min(1.0, gained / most)


def _discount(rank: int) -> float:
    return 1.0 / math.log2(rank + 1)


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest-rank one; 0 of nothing."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else 0.0
