"""The pictures of the documentation show what the engine does."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from tests.docs.drawing import WIDTH, Drawing, lanes
from tests.docs.pictures import IMAGES, PICTURES


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_what_the_engine_gives(name: str) -> None:
    drawn = PICTURES[name]().svg()
    assert (IMAGES / f"{name}.svg").read_text(encoding="utf-8") == drawn, "run: python -m tests.docs.pictures"


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_can_be_read_by_all(name: str) -> None:
    """It says what it shows, has both grounds, no script and nothing from elsewhere, and no text leaves it."""
    text = (IMAGES / f"{name}.svg").read_text(encoding="utf-8")
    svg = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert all(svg.findtext(f"{space}{tag}") for tag in ("title", "desc"))
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"<script|href=|url\(|@import", text)
    height = float(svg.attrib["height"])
    for one in svg.iter(f"{space}text"):
        assert 0 <= float(one.attrib["x"]) <= WIDTH and 0 < float(one.attrib["y"]) <= height, one.text


def test_what_overlaps_is_drawn_in_lanes() -> None:
    assert [0, 1, 0, 1] == lanes([(0, 10), (5, 15), (10, 20), (15, 25)])
    assert [0, 0] == lanes([(0, 1), (1, 2)])


def test_markup_in_a_text_is_text() -> None:
    drawing = Drawing("a < b", "told", 10)
    drawing.text(1, 2, "<script>")
    assert "&lt;script&gt;" in drawing.svg()
