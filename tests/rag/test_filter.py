"""The filter language: a table of what matches, a table of errors, and a Python oracle."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.rag.errors import FilterError
from millstream.rag.filter import Filter

NAMES = {
    "uri": "guide/a b.md",
    "year": 2021,
    "score": 0.5,
    "lang": "en",
    "tags": ["draft", 3, None],
    "live": True,
    "none": None,
    "o": {"p": {"q": 1}},
    "x.y": "dotted",
    "day": "2024-05-01",
    "Größe": 4,
    "odd name": 1,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("year == 2021", True),
        ("year = 2021.0", True),
        ("year == '2021'", False),
        ("year != '2021'", True),
        ("year >= 2021 and year < 2022", True),
        ("year > 2021 or lang == 'en'", True),
        ("not year > 2021", True),
        ("not (year == 2021 and lang == 'en')", False),
        ("not not live", True),
        ("live", True),
        ("year", False),
        ("live == 1", False),
        ("2020 < year", True),
        ("lang in ['de', 'en']", True),
        ("lang not in ['de', 'en']", False),
        ("lang in []", False),
        ("year in [2021,]", True),
        ("tags contains 'draft'", True),
        ("tags contains 'dra'", False),
        ("tags contains null", True),
        ("lang contains 'n'", True),
        ("year contains 2", False),
        ("uri glob 'guide/*.md'", True),
        ("uri glob '*[ab]*'", False),
        ("uri glob 'guide/???.md'", True),
        ("uri glob 'GUIDE/*'", False),
        ("year glob '*'", False),
        ("none == null", True),
        ("missing == null", True),
        ("missing < 3", False),
        ("missing >= null", False),
        ("lang < 3", False),
        ("o.p.q == 1", True),
        ("o.p.r == null", True),
        ("year.x == null", True),
        ("x.y == 'dotted'", True),
        ("`odd name` == 1", True),
        ("Größe > 3", True),
        ("day >= '2024-01-01' AND day < '2025'", True),
        ("lang == 'e\\'n'", False),
        ('lang == "en"', True),
        ("score > 4e-1", True),
        ("score > -1", True),
        ("live and live or year == 1", True),
        ("year == 1 and live or live", True),
        ("year == 1 and (live or live)", False),
        ("missing.__class__ == null", True),
    ],
)
def test_what_matches(text: str, expected: bool) -> None:
    assert expected == Filter(text).matches(NAMES)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected a value, got the end at character 1"),
        ("year ==", "expected a value, got the end at character 8"),
        ("year == 2021 lang", "expected and, or, or the end, got 'lang' at character 14"),
        ("(year == 1", r"expected '\)', got the end"),
        ("lang in 'en'", r"expected '\['"),
        ("lang in [en]", "expected a value, got 'en' at character 10.*a text needs quotes"),
        ("lang not 'en'", "expected 'in'"),
        ("a ~ b", "cannot read '~ b' at character 3"),
        ("lang == 'en", "cannot read"),
        ("f(x)", "expected and, or, or the end"),
        ("__import__('os')", "expected and, or, or the end"),
        ("uri glob 3", "glob takes a text"),
        ("and", "expected a value, got 'and'"),
        ("(" * 60 + "live" + ")" * 60, "more than 50 deep"),
        ("x" * 5000, "at most 4096"),
        ("1x == 2", "cannot read"),
    ],
)
def test_a_wrong_filter_says_where(text: str, reason: str) -> None:
    with pytest.raises(FilterError, match=reason):
        Filter(text)


values = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["a", "b", "ab"]))
leaves = st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), values)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.tuples(st.just("not"), inner), st.tuples(st.sampled_from(["and", "or"]), inner, inner)),
    max_leaves=8,
)


def _text(tree: Any) -> str:
    match tree:
        case ("not", inner):
            return f"not ({_text(inner)})"
        case (("and" | "or") as word, left, right):
            return f"({_text(left)}) {word} ({_text(right)})"
        case (name, sign, value):
            literal = (
                {None: "null", True: "true", False: "false"}.get(value)
                if not isinstance(value, int | str) or isinstance(value, bool)
                else repr(value)
            )
            return f"{name} {sign} {literal}"
    raise AssertionError(tree)


def _truth(tree: Any, names: dict[str, Any]) -> bool:
    """By the rules of the page, said in another way."""
    match tree:
        case ("not", inner):
            return not _truth(inner, names)
        case ("and", left, right):
            return _truth(left, names) and _truth(right, names)
        case ("or", left, right):
            return _truth(left, names) or _truth(right, names)
        case (name, sign, value):
            left = names.get(name)
            same = type(left) is type(value)
            if sign == "==":
                return same and left == value
            if sign == "!=":
                return not (same and left == value)
            if not same or isinstance(left, bool) or left is None:
                return False
            return {"<": left < value, "<=": left <= value, ">": left > value, ">=": left >= value}[sign]
    raise AssertionError(tree)


@given(trees, st.dictionaries(st.sampled_from(["x", "y"]), values))
def test_it_decides_as_the_oracle(tree: Any, names: dict[str, Any]) -> None:
    assert _truth(tree, names) == Filter(_text(tree)).matches(names)


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    try:
        decided = Filter(text).matches(NAMES)
    except FilterError:
        return
    assert decided in {True, False}
