"""Where in its document a chunk stands: what holds where it begins, and the last of what it covers."""

from __future__ import annotations

import pytest

from millstream.rag.blocks import Blocks
from millstream.rag.headings import HeadingPath, headings
from millstream.rag.parser import Limits
from millstream.rag.parts import part_named
from millstream.rag.places import Mark, places
from millstream.rag.splitter import Piece

MARKS = [
    Mark(0, "sheet", "A"),
    Mark(5, "row", 1),
    Mark(10, "row", 2),
    Mark(20, "sheet", "B"),
    Mark(20, "row", None),
    Mark(25, "row", 1),
    Mark(30, "heading", "H"),
]


@pytest.mark.parametrize(
    ("start", "stop", "place"),
    [
        (0, 5, {"sheet": "A"}),
        (0, 6, {"sheet": "A", "row": 1}),
        (0, 11, {"sheet": "A", "row": 1, "row_end": 2}),
        (10, 20, {"sheet": "A", "row": 2}),
        (10, 26, {"sheet": "A", "row": 2, "sheet_end": "B", "row_end": 1}),
        (20, 24, {"sheet": "B"}),
        (25, 40, {"sheet": "B", "row": 1}),
        (30, 40, {"sheet": "B", "row": 1, "heading": "H"}),
    ],
)
def test_a_chunk_stands_where_it_begins(start: int, stop: int, place: dict) -> None:
    assert [place] == places(MARKS, [Piece("x", start, stop)])


def test_each_chunk_has_its_own_place() -> None:
    assert places(MARKS, [Piece("x", 0, 4), Piece("y", 12, 14)]) == [{"sheet": "A"}, {"sheet": "A", "row": 2}]


def test_a_heading_in_code_is_code() -> None:
    text = "# A\n```\n# no\n```\n## B #\n#no"
    assert [(one.level, one.title, text[one.start]) for one in headings(text)] == [(1, "A", "#"), (2, "B", "#")]


def test_a_path_ends_where_a_higher_heading_begins() -> None:
    path = HeadingPath()
    entered = [path.enter(level, title) for level, title in [(1, "A"), (3, "B"), (2, "C"), (2, "D"), (1, "E")]]
    assert entered == ["A", "A > B", "A > C", "A > D", "E"]
    assert len(path.enter(2, "x" * 500)) <= 300


def test_a_document_within_a_document_takes_its_places_with_it() -> None:
    inner, outer = Blocks(Limits()), Blocks(Limits())
    inner.mark("page", 1)
    inner.add("one")
    outer.add("before")
    outer.adopt(inner.parsed({}))
    outer.add("after")
    found = outer.parsed({})
    pieces = part_named("splitter", "recursive", {"chars_max": 20}).split("before")
    assert found.text == "before\n\none\n\nafter"
    spans = [Piece("before", 0, 6), Piece("one", 8, 11), Piece("after", 13, 18)]
    assert places(found.marks, spans) == [{}, {"page": 1}, {}]
    assert pieces[0].stop == 6


def test_what_no_json_can_hold_is_taken_out() -> None:
    blocks = Blocks(Limits())
    blocks.add("a\x00b\ud800c\r\nd")
    assert blocks.parsed({}).text == "abc\nd"
