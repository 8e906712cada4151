"""What every splitter promises: nothing lost, nothing too long, and an edit changes few chunks."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.rag.errors import PartError
from millstream.rag.parts import part_named, part_names
from millstream.rag.splitter import Splitter

CHARS_MAX = 120


OPTIONS = {"tokens": {"tokens_max": 30}}
"""Of splitters that do not count characters. A token has at most four of a word, so thirty of them are no more than 120 and spaces."""
FILLED = {"semantic": 1 / 4}
"""How full chunks are on average, where topics decide too."""


@pytest.fixture(params=part_names("splitter"))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def splitter(name: str) -> Splitter:
    return part_named("splitter", name, OPTIONS.get(name, {"chars_max": CHARS_MAX}))


def bare(text: str) -> str:
    """Without white space."""
    return "".join(text.split())


def splitter_size(splitter: Splitter, text: str) -> int:
    """In the splitter's own measure."""
    return getattr(splitter, "size", len)(text)


def limit(splitter: Splitter) -> int:
    return 30 if hasattr(splitter, "size") else CHARS_MAX


def texts(splitter: Splitter, text: str) -> list[str]:
    return [piece.text for piece in splitter.split(text)]


fragments = st.sampled_from(
    ["word", "a", "# Heading", "```", "x" * 150, "\n", "\n\n", " ", ". ", '." ', "\t", "ß", "\u2028"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.lists(fragments, max_size=80).map("".join), st.text(max_size=500)))
def test_nothing_is_lost_and_nothing_too_long(splitter: Splitter, text: str) -> None:
    chunks = texts(splitter, text)
    assert bare(text) == "".join(map(bare, chunks))
    assert [chunk for chunk in chunks if not chunk.strip() or splitter_size(splitter, chunk) > limit(splitter)] == []
    assert chunks == texts(splitter, text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.lists(fragments, max_size=80).map("".join), st.text(max_size=500)))
def test_a_chunk_says_where_it_stood(splitter: Splitter, text: str) -> None:
    """Its range holds its characters and nothing else but white space; ranges follow one another."""
    found = splitter.split(text)
    assert [bare(piece.text) for piece in found] == [bare(text[piece.start : piece.stop]) for piece in found]
    assert all(before.stop <= after.start for before, after in itertools.pairwise(found))


def _paragraphs(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(f"w{draw.randrange(500)}" for _ in range(draw.randrange(4, 14))) + "." for _ in range(count)]


@pytest.mark.parametrize("seed", range(10))
def test_an_inserted_paragraph_changes_few_chunks(splitter: Splitter, seed: int) -> None:
    """Boundaries depend on what is beside them, not on the distance from the top (a greedy splitter changes all of them)."""
    paragraphs = _paragraphs(seed, 200)
    before = texts(splitter, "\n\n".join(paragraphs))
    after = texts(splitter, "\n\n".join(["A new paragraph at the very top.", *paragraphs]))
    assert len(before) > 50
    assert len(set(after) - set(before)) <= 12


def test_chunks_are_not_much_smaller_than_they_may_be(name: str, splitter: Splitter) -> None:
    chunks = texts(splitter, "\n\n".join(_paragraphs(1, 300)))
    assert CHARS_MAX * FILLED.get(name, 1 / 2) < sum(map(len, chunks)) / len(chunks)


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("", []),
        (" \n\n ", []),
        ("one\n\ntwo", ["one\n\ntwo"]),
        ("a" * 45, ["a" * 20, "a" * 20, "a" * 5]),
        ("Is it so? Yes, it is indeed.", ["Is it so?", "Yes, it is indeed."]),
        ('He said "go now." She went.', ['He said "go now."', "She went."]),
    ],
)
def test_recursive_cuts_where_a_reader_would(text: str, chunks: list[str]) -> None:
    assert chunks == texts(part_named("splitter", "recursive", {"chars_max": 20}), text)


def test_overlap_is_the_end_of_the_chunk_before() -> None:
    chunks = texts(part_named("splitter", "recursive", {"chars_max": 40, "overlap_chars": 10}), "one two three " * 10)
    assert len(chunks) > 3
    for before, after in itertools.pairwise(chunks):
        assert len(after) <= 40
        assert after.split(" ")[0] in before[-10:]


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("# A\n\na\n\n## B\n\nb", ["# A\n\na", "## B\n\nb"]),
        ("# A\n\n## B\n\nb", ["# A\n\n## B\n\nb"]),
        ("```\n# no heading\n```\n\ntext", ["```\n# no heading\n```\n\ntext"]),
        ("# Last", ["# Last"]),
        ("before\n# A\nx", ["before", "# A\nx"]),
    ],
)
def test_markdown_cuts_at_headings(text: str, chunks: list[str]) -> None:
    assert chunks == texts(part_named("splitter", "markdown"), text)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"chars_max": 3}, "at least 20"),
        ({"overlap_chars": 900}, "half of chars_max"),
        ({"chars_mx": 3}, "did you mean 'chars_max'"),
    ],
)
def test_a_wrong_option_is_named(options: dict, reason: str) -> None:
    with pytest.raises(PartError, match=reason):
        part_named("splitter", "recursive", options)
