"""Patterns over paths, as Pathway's `globmatch` and `filepath_globpattern` match them: `docs/**/*.md`.

    *      any run of characters, `/` among them: `*.pdf` are the PDFs of every folder        ?   any one character
    **     between slashes, any number of folders, none too; at the end, everything in it      [ab] [a-z] [!a]   one of these, or not

Case counts. That is how the engine of Pathway 0.33 searches (tried against it; the function of that name in its Python sources lets `*`
end at a slash, and is not what a retrieval meets). A pattern is cut at its stars into parts of a fixed length, and each is looked for
from where the one before it ended: the earliest place is always good enough, so there is no backtracking to be had.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .errors import FilterError

_CHARS_MAX: Final = 1_024
_CHARS_A_STEP: Final = 64
_TOKEN = re.compile(
    r"(?P<folders>(?:(?<=/)|\A)\*\*(?:/|\Z))|(?P<stars>\*+)|(?P<set>\[!?[^\[][^\]]*\])|(?P<one>.)", re.DOTALL
)
_STARTS_FOLDER: Final = "(?<![^/])"


@dataclass(frozen=True, slots=True)
class _Part:
    """What stands between two stars."""

    regex: re.Pattern[str]
    length: int
    is_free: bool
    """A star before it: it may stand anywhere from there on."""


class Glob:
    """A parsed pattern. Raises FilterError where it is none, or too long."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > _CHARS_MAX:
            raise FilterError(f"filter: the glob pattern has {len(pattern)} characters, at most {_CHARS_MAX}")
        self._chars = len(pattern)
        self._parts = list(_parts(pattern))

    def matches(self, path: str, spend: Callable[[int], None] | None = None) -> bool:
        """`spend` is told how many steps are about to be done."""
        if spend is not None:
            spend(1 + self._chars * len(path) // _CHARS_A_STEP)
        at = 0
        for part in self._parts[:-1]:
            found = part.regex.search(path, at) if part.is_free else part.regex.match(path, at)
            if found is None:
                return False
            at = found.end()
        last = self._parts[-1]
        start = len(path) - last.length
        return (start >= at if last.is_free else start == at) and last.regex.match(path, start) is not None

    def __repr__(self) -> str:
        return f"Glob({self._parts!r})"


def _parts(pattern: str) -> Iterator[_Part]:
    regex, length, is_free = "", 0, False
    for token in _TOKEN.finditer(pattern):
        kind, text = token.lastgroup, token.group()
        if kind in {"folders", "stars"}:
            if kind == "stars" and len(text) > 1:
                raise FilterError(f"filter: in the glob pattern {pattern!r} ** does not stand between slashes")
            yield _Part(re.compile(regex, re.DOTALL), length, is_free)
            regex, length, is_free = _STARTS_FOLDER if text == "**/" else "", 0, True
            continue
        length += 1
        regex += _one(text, pattern)
    yield _Part(re.compile(regex, re.DOTALL), length, is_free)


def _one(text: str, pattern: str) -> str:
    """The regular expression of one character."""
    if text == "?":
        return "."
    if text == "[":
        raise FilterError(f"filter: in the glob pattern {pattern!r} a [ is not closed")
    if len(text) == 1:
        return re.escape(text)
    turned = text.startswith("[!")
    members = text[2 if turned else 1 : -1]
    ranges = "".join(_ranges(members))
    try:
        return re.compile(f"[{'^' if turned else ''}{ranges}]").pattern
    except re.error:
        raise FilterError(f"filter: in the glob pattern {pattern!r} {text!r} is no set of characters") from None


def _ranges(members: str) -> Iterator[str]:
    """Each end escaped: two dashes, or two ampersands, are more than characters to `re`."""
    for found in re.finditer(r"(.)-(.)|.", members, re.DOTALL):
        first, last = found.groups()
        yield re.escape(found.group()) if first is None else f"{re.escape(first)}-{re.escape(last)}"


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
