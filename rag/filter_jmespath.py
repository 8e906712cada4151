"""Filters in JMESPath, as Pathway's clients send them: ``contains(path, 'guide') && modified_at >= `1700000000` ``.

What an expression sees is the document's metadata, and beside it

    path, uri      the document's id, where the metadata has no name of its own like that
    modified_at    of the document's record, in seconds since the epoch: ingestion puts it into the metadata

All functions of JMESPath are there, and Pathway's `globmatch(pattern, path)`. A document matches where the result is `true`, and
nothing else counts as true. A text stands in quotes ('a.md'), or in backticks without, which is the only way that Pathway's own
server takes; a number in backticks is a number, so that `to_number` around it is allowed and not needed.

A document on which the expression cannot be evaluated (a function of a name that is not there) does not match; where that is so for
all of them, the query gets the reason as its error (`metadata_table.py`). What cannot be right for any document, an unknown function or
a wrong number of arguments, is an error at once. Limits: 4,096 characters, 50 deep, and steps: 20,000 for one document and 200 for
each on the average. Steps are counted and not timed, so that the same filter is the same error on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .errors import FilterError, UndecidedError
from .jmespath_tree import Meter, compiled
from .parts import extra

_CHARS_MAX: Final = 4_096
_STEPS_MAX: Final = 20_000
_STEPS_PER_DOCUMENT_MAX: Final = 200
_MISTAKES: Final = (ArithmeticError, TypeError, ValueError, LookupError, AttributeError, RecursionError)
"""What functions of JMESPath raise over values they were not made for, its own errors among them (a ValueError each)."""


class JmespathFilter:
    """A parsed expression; one object a query. Raises FilterError naming the place, PartError where the extra `rag` is missing."""

    def __init__(self, text: str) -> None:
        if len(text) > _CHARS_MAX:
            raise FilterError(f"filter: the JMESPath has {len(text)} characters, at most {_CHARS_MAX}")
        self._text = text
        self._meter = Meter()
        self._budget = _STEPS_MAX
        self._step = compiled(_parsed(text), self._meter)

    def matches(self, names: Mapping[str, Any]) -> bool:
        seen = {"path": names.get("uri"), **names}
        self._meter.left = min(_STEPS_MAX, self._budget)
        before = self._meter.left
        try:
            return self._step(seen) is True
        except _MISTAKES as error:
            raise UndecidedError(f"filter: JMESPath {self._text!r}: {_reason(error)}") from None
        finally:
            self._budget += _STEPS_PER_DOCUMENT_MAX - (before - self._meter.left)

    def __repr__(self) -> str:
        return f"JmespathFilter({self._text!r})"


def _parsed(text: str) -> dict[str, Any]:
    errors = extra("jmespath.exceptions")
    try:
        parsed: dict[str, Any] = extra("jmespath").compile(text).parsed
    except (errors.JMESPathError, ValueError) as error:
        raise FilterError(f"filter: JMESPath {text!r}: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise FilterError("filter: the JMESPath is nested too deep") from None
    return parsed


def _reason(error: Exception) -> str:
    """Without the value: a document's metadata is not everybody's."""
    expected, got = getattr(error, "expected_types", None), getattr(error, "actual_type", None)
    if expected and got:
        return f"{getattr(error, 'function_name', 'a function')}() takes {' or '.join(expected)}, got {got}"
    return f"it cannot be evaluated ({type(error).__name__})"
