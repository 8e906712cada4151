"""In which language a filter is, is said by the query."""

from __future__ import annotations

import pytest

from millstream.rag.errors import FilterError
from millstream.rag.filters import FilterText, filter_of

NAMES = {"uri": "guide/a.md", "year": 2024}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("uri glob 'guide/*' and year > 2000", True),
        ({"jmespath": "year > `2000`"}, True),
        ({"jmespath": "year > `2030`"}, False),
        ({"glob": "guide/*.md"}, True),
        ({"jmespath": "year > `2000`", "glob": "**/*.md"}, True),
        ({"jmespath": "year > `2000`", "glob": "*.pdf"}, False),
    ],
)
def test_each_language_by_its_name(given: FilterText, expected: bool) -> None:
    assert expected == filter_of(given).matches(NAMES)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("year > `2000` && 1", "cannot read"),
        ({}, "an object with jmespath, glob or both"),
        ({"sql": "1 = 1"}, "got .'sql'."),
        ({"jmespath": "year > 2000"}, "JMESPath"),
    ],
)
def test_what_is_in_no_language_is_an_error(given: FilterText, reason: str) -> None:
    with pytest.raises(FilterError, match=reason):
        filter_of(given)


def test_filters_that_differ_are_told_apart() -> None:
    """What they matched is kept by their repr."""
    given: list[FilterText] = ["a", {"jmespath": "a"}, {"glob": "a"}, {"glob": "a", "jmespath": "a"}]
    assert len({repr(filter_of(one)) for one in given}) == 4
