"""Glob patterns over paths: a table, and a recursive oracle."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millstream.rag.errors import FilterError
from millstream.rag.filter_glob import Glob, GlobFilter


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.pdf", "a.pdf", True),
        ("*.pdf", "a/b.pdf", True),
        ("**/*.pdf", "a/b.pdf", True),
        ("**/*.pdf", "b.pdf", True),
        ("foo/**", "foo/c.md", True),
        ("foo/**", "foo/b/c.md", True),
        ("foo/**", "foo", False),
        ("foo/**/*.pdf", "foo/bar/a.pdf", True),
        ("foo/**/*.pdf", "foo/a.pdf", True),
        ("foo/**/a.pdf", "foo/xa.pdf", False),
        ("foo/**/a.pdf", "foo/x/a.pdf", True),
        ("**", "any/thing", True),
        ("**/**/x", "x", True),
        ("f*", "foo/bar/a.pdf", True),
        ("a/[bc]?", "a/bd", True),
        ("a/[bc]?", "a/dd", False),
        ("[!a]", "b", True),
        ("[!a]", "a", False),
        ("[a-c]x", "bx", True),
        ("[]]", "]", True),
        ("[^]", "^", True),
        ("[+--]", ",", True),
        ("[a-c-e]", "-", True),
        ("[a-c-e]", "d", False),
        ("[-a]", "-", True),
        ("[!&&~~||a]", "&", False),
        ("A", "a", False),
        ("", "", True),
        ("", "a", False),
        ("a.b", "axb", False),
        ("s3://b/**", "s3://b/x/y", True),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_a_pattern_matches(pattern: str, path: str, expected: bool) -> None:
    """The rows of foo and f*, and those of ** before them, are what Pathway 0.33 found."""
    assert expected == Glob(pattern).matches(path)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a**", "not stand between slashes"),
        ("**a/b", "not stand between slashes"),
        ("***", "not stand between slashes"),
        ("a[b", "is not closed"),
        ("[c-a]", "no set of characters"),
        ("[0--]", "no set of characters"),
        ("x" * 1_025, "at most 1024"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(FilterError, match=reason):
        Glob(pattern)


def _truth(pattern: list[str], path: str) -> bool:
    if not pattern:
        return not path
    first, rest = pattern[0], pattern[1:]
    if first == "**/":
        ends = [at + 1 for at, char in enumerate(path) if char == "/"]
        return _truth(rest, path) or any(_truth(rest, path[end:]) for end in ends)
    if first == "*":
        return any(_truth(rest, path[at:]) for at in range(len(path) + 1))
    return bool(path) and (first == "?" or path[0] == first) and _truth(rest, path[1:])


pieces = st.lists(st.sampled_from(["a", "b", "/", "*", "?", "**/"]), max_size=7)


@given(pieces, st.text(alphabet="ab/", max_size=8))
@example(["**/", "a", "*", "b"], "b/ab/a")
def test_it_matches_as_the_oracle(pattern: list[str], path: str) -> None:
    places = range(1, len(pattern))
    if any(pattern[at] == "**/" and pattern[at - 1] not in {"/", "**/"} for at in places):
        return
    if any(pattern[at - 1] == "*" and pattern[at] == "*" for at in places):
        return
    assert _truth(pattern, path) == Glob("".join(pattern)).matches(path)


def test_a_pattern_made_to_be_slow_is_counted_and_done() -> None:
    """Steps grow with the pattern times the path, whatever the pattern: the recursive oracle would not end."""
    spent: list[int] = []
    assert not Glob("**/" * 30 + "*a" * 30 + "b").matches("a/" * 60 + "a" * 60, spent.append)
    assert spent == [1 + 151 * 180 // 64]


@pytest.mark.filterwarnings("error")
@given(st.text(alphabet="a*?[]!-^/\\&|~", max_size=12), st.text(alphabet="a-^/[]", max_size=6))
def test_any_text_is_a_pattern_or_an_error(pattern: str, path: str) -> None:
    try:
        matched = Glob(pattern).matches(path)
    except FilterError:
        return
    assert matched in {True, False}


def test_the_metadata_s_path_is_looked_at_before_the_id() -> None:
    assert GlobFilter("*.md").matches({"uri": "a.md"})
    assert not GlobFilter("*.md").matches({"uri": "a.md", "path": "a.txt"})
    assert not GlobFilter("*").matches({"path": 3})
