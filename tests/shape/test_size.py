"""One subject a file, and functions that fit on a screen.

What was longer when a rule came is listed in `ratchet.json` with its length. An entry may only shrink, and leaves when the limit is kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest

from tests.shape.tree import BESIDE, files, functions, package, short

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
MEDIAN_FUNCTION_LINES_MAX = 10

_RATCHET: dict[str, int] = json.loads(Path(__file__).with_name("ratchet.json").read_text())


def _lengths() -> dict[str, int]:
    """Every file and every function with its length and its limit kept or not."""
    python = [*package(), *files(*BESIDE, suffix=".py")]
    by_file = {short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python}
    return by_file | {function.place: function.lines for path in python for function in functions(path)}


def _limit(place: str) -> int:
    return FUNCTION_LINES_MAX if ":" in place else FILE_LINES_MAX


def test_no_file_and_no_function_outgrows_its_limit() -> None:
    """400 lines a file, 70 lines a function (its docstring not counted)."""
    too_long = [
        f"{place}: {lines} lines, at most {_RATCHET.get(place, _limit(place))}"
        for place, lines in _lengths().items()
        if lines > _RATCHET.get(place, _limit(place))
    ]
    assert too_long == [], "two subjects: cut the file or the function in two by what they are about"


def test_the_ratchet_only_shrinks() -> None:
    """An entry says exactly how long the thing is today; one that keeps the limit is gone."""
    lengths = _lengths()
    stale = [
        f"{place}: listed {listed}, is {lengths.get(place, 0)}"
        for place, listed in _RATCHET.items()
        if lengths.get(place, 0) < listed or listed <= _limit(place)
    ]
    assert stale == [], "lower these entries of tests/shape/ratchet.json (or remove them)"


def test_the_median_function_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    """Half of the package's functions have fewer than ten lines."""
    lengths = [function.lines for path in package() for function in functions(path)]
    middle = median(lengths)
    with capsys.disabled():
        print(f" {len(lengths)} functions, median {middle:g} lines, longest {max(lengths)} ", end="")
    assert middle < MEDIAN_FUNCTION_LINES_MAX
