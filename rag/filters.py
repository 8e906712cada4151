"""Which language a filter is in. It is said, never guessed: a text is ours, an object names another.

    "filter": "year >= 2020 and uri glob 'guide/*'"                     filter.py
    "filter": {"jmespath": "contains(path, 'guide')"}                   filter_jmespath.py, as Pathway's `metadata_filter`
    "filter": {"glob": "guide/**/*.md"}                                 filter_glob.py, as Pathway's `filepath_globpattern`
    "filter": {"jmespath": "...", "glob": "..."}                        both have to match

`path == 'a'` is a filter in both languages and means two things in them, so no look at the text could tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from .errors import FilterError
from .filter import Filter
from .filter_glob import GlobFilter
from .filter_jmespath import JmespathFilter

FilterText = str | Mapping[str, str]
"""As it stands in a query."""


class Matcher(Protocol):
    """A filter of any language. Its repr stands for it: two with the same repr match the same."""

    def matches(self, names: Mapping[str, Any]) -> bool:
        """Raises UndecidedError where it cannot be evaluated on these names, FilterError where it takes too long."""
        ...


_LANGUAGES: Final[Mapping[str, Callable[[str], Matcher]]] = {"jmespath": JmespathFilter, "glob": GlobFilter}


def filter_of(given: FilterText) -> Matcher:
    """Raises FilterError naming the place, or the language that there is not."""
    if isinstance(given, str):
        return Filter(given)
    unknown = sorted(given.keys() - _LANGUAGES.keys())
    if unknown or not given:
        raise FilterError(
            f"filter: expected a text, or an object with jmespath, glob or both; got {unknown or 'neither'}"
        )
    parsed = [_LANGUAGES[language](given[language]) for language in sorted(given)]
    return parsed[0] if len(parsed) == 1 else _All(parsed)


class _All:
    def __init__(self, filters: Sequence[Matcher]) -> None:
        self._filters = filters

    def matches(self, names: Mapping[str, Any]) -> bool:
        return all(one.matches(names) for one in self._filters)

    def __repr__(self) -> str:
        return " and ".join(map(repr, self._filters))
