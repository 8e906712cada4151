"""Settings of answering by the names that YAML and `millstream evaluate --with` know them by."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from .adaptive import AdaptiveSettings, Evidence
from .conversation import ConversationSettings
from .document import Price
from .messages import STRATEGIES
from .parse_job import Part
from .settings import RERANKER_FAILURES, AnswerSettings, RetrievalSettings

_ADAPTIVE: Final = frozenset(field.name for field in fields(AdaptiveSettings)) - {"evidence"}
_PARTS: Final = frozenset({"llm", "ranking", "reranker", "rewriter"})
_NUMBERS: Final = ("standing_max", "standing_retries_max", "standing_retry_ms", "standing_retry_ms_max")
_RETRIEVAL: Final = frozenset({"k", "rerank_chunks", "pool_chunks", "coverage_weight"})


def option_names(*, parts: bool = True) -> list[str]:
    """`parts`: with those that name a part."""
    return sorted(name for name in (*_ADAPTIVE, *_RETRIEVAL, *_CHANGES) if parts or name not in _PARTS)


def changed(settings: AnswerSettings, name: str, value: Any) -> AnswerSettings:
    """With one of them set. Raises ValueError saying what was expected, or which name is nearest."""
    try:
        return _changed(settings, name, value)
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _changed(settings: AnswerSettings, name: str, value: Any) -> AnswerSettings:
    if name in _ADAPTIVE:
        return replace(settings, adaptive=_typed(settings.adaptive, name, value))
    if name in _RETRIEVAL:
        return replace(settings, retrieval=_typed(settings.retrieval, name, value))
    change = _CHANGES.get(name)
    if change is None:
        known = option_names()
        close = difflib.get_close_matches(name, known, n=1)
        raise ValueError(f"no such setting; did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}")
    return change(settings, value)


def _typed(settings: Any, name: str, value: Any) -> Any:
    """With this value, which must be a number where there is one (a bool where there is one)."""
    wants_flag = isinstance(getattr(settings, name), bool)
    if isinstance(value, bool) != wants_flag or not isinstance(value, int | float):
        raise ValueError(f"expected {'true or false' if wants_flag else 'a number'}, got {value!r}")
    if isinstance(getattr(settings, name), int) and not isinstance(value, int):
        raise ValueError(f"expected a whole number, got {value!r}")
    return replace(settings, **{name: value})


def _strategy(settings: AnswerSettings, value: Any) -> AnswerSettings:
    if value not in STRATEGIES:
        raise ValueError(f"expected one of {', '.join(STRATEGIES)}, got {value!r}")
    return replace(settings, strategy=value)


def _reranker(settings: AnswerSettings, value: Any) -> AnswerSettings:
    retrieval: RetrievalSettings = replace(settings.retrieval, reranker=_part(value))
    return replace(settings, retrieval=retrieval)


def _ranking(settings: AnswerSettings, value: Any) -> AnswerSettings:
    return replace(settings, retrieval=replace(settings.retrieval, ranking=_part(value)))


def _conversation(settings: AnswerSettings, value: Any) -> AnswerSettings:
    """`conversation: {turns_max: 4, age_max_ms: 600000}`."""
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping of numbers, got {value!r}")
    conversation = settings.conversation
    for name, number in value.items():
        if name not in {field.name for field in fields(ConversationSettings)}:
            raise ValueError(f"no setting {name!r} of a conversation")
        conversation = _typed(conversation, name, number)
    return replace(settings, conversation=conversation)


def _reranker_failure(settings: AnswerSettings, value: Any) -> AnswerSettings:
    if value not in RERANKER_FAILURES:
        raise ValueError(f"expected one of {', '.join(RERANKER_FAILURES)}, got {value!r}")
    return replace(settings, retrieval=replace(settings.retrieval, reranker_failure=value))


def _evidence(settings: AnswerSettings, value: Any) -> AnswerSettings:
    """`evidence='{best: .5, gap: .6, intercept: -8}'`, as `--calibrate` prints it."""
    return replace(settings, adaptive=replace(settings.adaptive, evidence=Evidence(**_numbers(value))))


def _whole(name: str) -> Callable[[AnswerSettings, Any], AnswerSettings]:
    def change(settings: AnswerSettings, value: Any) -> AnswerSettings:
        changed: AnswerSettings = _typed(settings, name, value)
        return changed

    return change


def _paid_calls(settings: AnswerSettings, value: Any) -> AnswerSettings:
    return replace(settings, paid_calls=_typed(settings.paid_calls, "retention_ms", value))


def _price(settings: AnswerSettings, value: Any) -> AnswerSettings:
    return replace(settings, price=Price(**_numbers(value)))


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping of numbers, got {value!r}")
    return {str(name): float(number) for name, number in value.items()}


def _part(value: Any) -> Part:
    if isinstance(value, str):
        return Part(value)
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(f"expected a part's name, or {{name: {{option: value}}}}, got {value!r}")
    ((name, options),) = value.items()
    return Part(str(name), dict(options or {}))


_CHANGES: Final[Mapping[str, Callable[[AnswerSettings, Any], AnswerSettings]]] = {
    "strategy": _strategy,
    "ranking": _ranking,
    "reranker": _reranker,
    "llm": lambda settings, value: replace(settings, llm=_part(value)),
    "reranker_failure": _reranker_failure,
    "rewriter": lambda settings, value: replace(settings, rewriter=None if value is None else _part(value)),
    "conversation": _conversation,
    **{name: _whole(name) for name in _NUMBERS},
    "no_answer": lambda settings, value: replace(settings, no_answer=str(value)),
    "evidence": _evidence,
    "paid_calls_retention_ms": _paid_calls,
    "price": _price,
}
