"""Patterns over paths, as Pathway's `globmatch` and `filepath_globpattern` have them: `docs/**/*.md`.

    pattern := segment ("/" segment)*
    segment := "**"  any number of segments, none too    |  else one segment, in which `*` is any run, `?` one character,
                                                            `[ab]` one of these; case counts

A `*` does not reach over a `/`; a pattern without one means files at the top: `**/*.pdf` are those of any folder. Matched by the
set of places in the pattern that may come next, so that no pattern takes more than segments x segments steps.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from .errors import FilterError

_CHARS_MAX: Final = 4_096
_SEGMENTS_MAX: Final = 64
_ANY: Final = "**"


class Glob:
    """A parsed pattern. Raises FilterError where it is too long."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > _CHARS_MAX:
            raise FilterError(f"filter: the glob pattern has {len(pattern)} characters, at most {_CHARS_MAX}")
        segments = pattern.split("/")
        if len(segments) > _SEGMENTS_MAX:
            raise FilterError(f"filter: the glob pattern has {len(segments)} segments, at most {_SEGMENTS_MAX}")
        self._tests = [None if one == _ANY else re.compile(fnmatch.translate(one)).match for one in segments]

    def matches(self, path: str, spend: Callable[[int], None] | None = None) -> bool:
        """`spend` is told how many steps are about to be done."""
        segments = path.split("/")
        if spend is not None:
            spend(len(segments) * len(self._tests))
        places = self._reached({0})
        for segment in segments:
            places = self._reached({after for place in places for after in self._after(place, segment)})
        return len(self._tests) in places

    def _after(self, place: int, segment: str) -> list[int]:
        if place == len(self._tests):
            return []
        test = self._tests[place]
        if test is None:
            return [place]
        return [place + 1] if test(segment) else []

    def _reached(self, places: set[int]) -> set[int]:
        """With those behind a `**` that stands for nothing."""
        reached = set(places)
        for place in sorted(places):
            while place < len(self._tests) and self._tests[place] is None:
                place += 1  # noqa: PLW2901 - walks over the run of `**`
                reached.add(place)
        return reached


class GlobFilter:
    """Documents whose path (`path` of their metadata, else their id) fits the pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._glob = Glob(pattern)

    def matches(self, names: Mapping[str, Any]) -> bool:
        path = names.get("path", names.get("uri"))
        return isinstance(path, str) and self._glob.matches(path)

    def __repr__(self) -> str:
        return f"GlobFilter({self._pattern!r})"
