"""A configuration in one line of text, as changes to settings: `strategy=adaptive posterior=true reranker=none`.

Words are parted as a shell does it; values are YAML, so a part with options is `'reranker={http: {url: http://127.0.0.1:8080/rerank}}'`.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

import yaml

from ..adaptive import AdaptiveSettings, Evidence
from ..document import Price
from ..errors import PartError
from ..messages import STRATEGIES
from ..parse_job import Part
from ..settings import AnswerSettings, RetrievalSettings

_ADAPTIVE: Final = frozenset(field.name for field in fields(AdaptiveSettings)) - {"evidence"}
_RETRIEVAL: Final = frozenset({"k", "rerank_chunks", "pool_chunks", "coverage_weight"})


def configured(settings: AnswerSettings, text: str) -> AnswerSettings:
    """Raises PartError naming the word that is wrong."""
    for name, value in _pairs(text):
        try:
            settings = _changed(settings, name, value)
        except (TypeError, ValueError, AttributeError) as error:
            raise PartError(f"configuration {text!r}: {name}: {error}") from error
    return settings


def _pairs(text: str) -> list[tuple[str, Any]]:
    try:
        words = [word.partition("=") for word in shlex.split(text)]
        return [(name, yaml.safe_load(value)) for name, _, value in words]
    except (ValueError, yaml.YAMLError) as error:
        raise PartError(f"configuration {text!r}: {error}") from error


def _changed(settings: AnswerSettings, name: str, value: Any) -> AnswerSettings:
    if name in _ADAPTIVE:
        return replace(settings, adaptive=_typed(settings.adaptive, name, value))
    if name in _RETRIEVAL:
        return replace(settings, retrieval=_typed(settings.retrieval, name, value))
    change = _CHANGES.get(name)
    if change is None:
        known = sorted([*_ADAPTIVE, *_RETRIEVAL, *_CHANGES])
        close = difflib.get_close_matches(name, known, n=1)
        raise PartError(
            f"no setting {name!r}; " + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}")
        )
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


def _evidence(settings: AnswerSettings, value: Any) -> AnswerSettings:
    """`evidence='{best: .5, gap: .6, intercept: -8}'`, as `--calibrate` prints it."""
    return replace(settings, adaptive=replace(settings.adaptive, evidence=Evidence(**_numbers(value))))


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
    "reranker": _reranker,
    "llm": lambda settings, value: replace(settings, llm=_part(value)),
    "no_answer": lambda settings, value: replace(settings, no_answer=str(value)),
    "evidence": _evidence,
    "price": _price,
}
