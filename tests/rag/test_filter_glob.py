"""Glob patterns over paths: a table, and a recursive oracle."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.rag.errors import FilterError
from millstream.rag.filter_glob import Glob, GlobFilter


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.pdf", "a.pdf", True),
        ("*.pdf", "a/b.pdf", False),
        ("**/*.pdf", "a/b.pdf", True),
        ("**/*.pdf", "b.pdf", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a", True),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/x/y/c", True),
        ("a/**/c", "a/x/y/d", False),
        ("**", "any/thing", True),
        ("**/**/x", "x", True),
        ("a/[bc]?", "a/bd", True),
        ("a/[bc]?", "a/dd", False),
        ("A", "a", False),
        ("", "", True),
        ("", "a", False),
        ("s3://b/**", "s3://b/x/y", True),
    ],
)
def test_what_a_pattern_matches(pattern: str, path: str, expected: bool) -> None:
    assert expected == Glob(pattern).matches(path)


def _truth(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return _truth(pattern[1:], path) or (bool(path) and _truth(pattern, path[1:]))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _truth(pattern[1:], path[1:])


@given(
    st.lists(st.sampled_from(["a", "b", "*", "**", "?", "a*", "[ab]"]), min_size=1, max_size=6),
    st.lists(st.sampled_from(["a", "b", "ab", ""]), min_size=1, max_size=6),
)
def test_it_matches_as_the_oracle(pattern: list[str], path: list[str]) -> None:
    assert _truth(pattern, path) == Glob("/".join(pattern)).matches("/".join(path))


@pytest.mark.parametrize("pattern", ["a/" * 64, "x" * 5_000])
def test_a_pattern_that_is_too_long_is_refused(pattern: str) -> None:
    with pytest.raises(FilterError, match="at most"):
        Glob(pattern)


def test_a_pattern_made_to_be_slow_is_counted_and_done() -> None:
    """Steps are segments times segments, whatever the pattern: the recursive oracle would not end."""
    spent: list[int] = []
    assert not Glob("**/" * 30 + "*a" * 30 + "b").matches("a/" * 60 + "a" * 60, spent.append)
    assert spent == [31 * 61]


def test_the_metadata_s_path_is_looked_at_before_the_id() -> None:
    assert GlobFilter("*.md").matches({"uri": "a.md"})
    assert not GlobFilter("*.md").matches({"uri": "a.md", "path": "a.txt"})
    assert not GlobFilter("*").matches({"path": 3})
