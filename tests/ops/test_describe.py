"""A topology as text and as a picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.ops.describe.layout import Frame, Placed, layout_of
from millstream.ops.describe.outline import Box, Outline, outline_of
from millstream.ops.describe.svg import as_svg
from millstream.ops.describe.text import as_text
from millstream.ops.pipeline_yaml.build import pipeline_of

_PIPELINE = """
app: shop
topics:
  views: {key: user, event_time: ts, partitions: 2, schema: {user: string, page: string, ts: timestamp_ms}}
  orders: {key: order, event_time: ts, partitions: 2, schema: {order: string, user: string, price: float, ts: timestamp_ms}}
streams:
  - from: views
    where: page <> '/'
    as: products
  - from: products
    interval_join: {with: orders, on: user, lower: 0s, upper: 5m, name: bought}
    as: joined
  - from: joined
    select: [user, page, price]
    to: views-with-orders
  - from: joined
    window: {hopping: {size: 1m, hop: 10s}, by: page, name: per-page}
    aggregate: {n: count(), revenue: sum(price)}
    to: pages
"""


def _outline() -> Outline:
    return outline_of(pipeline_of(_PIPELINE))


def test_the_text_says_what_runs_where_and_what_it_keeps() -> None:
    lines = as_text(_outline()).splitlines()
    assert lines[0] == "shop: exactly once, a commit every 100ms"
    shapes = [
        line.partition("  ")[0] if not line.startswith((" ", "│")) else line.split(":")[0].rstrip() for line in lines
    ]
    assert [line for line in shapes if line][1:] == [
        "sub-topology 0: 2 tasks",
        "orders",
        "└─ shop-by-user-1-repartition",
        "sub-topology 1: 2 tasks",
        "shop-by-user-1-repartition",
        "└─ bought",
        "   ├─ select-1  select",
        "   │  └─ views-with-orders  topic",
        "   └─ shop-by-page-1-repartition  repartition topic",
        "views",
        "└─ filter-1",
        "   └─ bought, above",
        "sub-topology 2: 2 tasks",
        "shop-by-page-1-repartition",
        "└─ per-page",
        "   └─ pages  topic",
        "changelogs: shop-bought-changelog, shop-per-page-changelog",
    ]
    assert any("per-page" in line and "hopping 1m" in line and "[store per-page]" in line for line in lines)


def test_the_json_has_every_box_and_arrow() -> None:
    told = _outline().as_json()
    arrows = {(source, target) for source, target in told["arrows"]}
    assert ("topic:orders", "topic:shop-by-user-1-repartition") in arrows
    assert ("step:bought", "step:select-1") in arrows
    assert {end for arrow in arrows for end in arrow} == {box["id"] for box in told["boxes"]}
    assert told["subs"] == [{"name": "0", "tasks": 2}, {"name": "1", "tasks": 2}, {"name": "2", "tasks": 2}]


def test_the_picture_is_whole_and_runs_nothing() -> None:
    root = ET.fromstring(as_svg(_outline()))
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags == {"svg", "title", "style", "defs", "marker", "path", "rect", "text", "g"}
    shown = "".join(root.itertext())
    for word in (
        "views-with-orders",
        "per-page",
        "sub-topology 2, 2 tasks",
        "store: bought",
        "0s to 5m, by user",
        "2 partitions by user",
        "hopping 1m",
        "repartition topic",
    ):
        assert word in shown
    assert "prefers-color-scheme: dark" in shown


def test_names_cannot_break_out_of_the_picture() -> None:
    box = Box("topic:x", "topic", '<script>"&', "topic", (("key", "</svg>"),), sub="0")
    outline = Outline("a<b", "exactly_once", 1, (("0", 1),), (box,), (), ())
    assert "script" not in {element.tag.rpartition("}")[2] for element in ET.fromstring(as_svg(outline)).iter()}


@st.composite
def _outlines(draw: st.DrawFn) -> Outline:
    """Any boxes and arrows, circles too: more than any pipeline could make."""
    subs = draw(st.integers(1, 4))
    count = draw(st.integers(1, 14))
    boxes = tuple(
        Box(
            f"b{number}",
            draw(st.sampled_from(["topic", "internal", "step"])),
            draw(st.text(max_size=50)),
            "x",
            sub=str(draw(st.integers(0, subs - 1))),
        )
        for number in range(count)
    )
    ids = st.sampled_from([box.id for box in boxes])
    arrows = draw(st.lists(st.tuples(ids, ids), unique=True, max_size=25))
    return Outline("app", "exactly_once", 1, tuple((str(n), 1) for n in range(subs)), boxes, tuple(arrows), ())


def _overlap(a: Placed | Frame, b: Placed | Frame) -> bool:
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height


@settings(max_examples=50)
@given(_outlines())
def test_no_two_boxes_overlap_and_all_lie_in_the_picture(outline: Outline) -> None:
    layout = layout_of(outline)
    placed = list(layout.boxes.values())
    assert [(a.box.id, b.box.id) for a, b in combinations(placed, 2) if _overlap(a, b)] == []
    assert all(0 <= one.x and one.x + one.width <= layout.width for one in placed)
    assert all(0 <= one.y and one.y + one.height <= layout.height for one in placed)


@settings(max_examples=50)
@given(_outlines())
def test_frames_hold_their_steps_and_do_not_overlap(outline: Outline) -> None:
    layout = layout_of(outline)
    assert [(a.title, b.title) for a, b in combinations(layout.frames, 2) if _overlap(a, b)] == []
    steps = {box.sub for box in outline.boxes if box.kind == "step"}
    assert [frame.title.split()[1].rstrip(",") for frame in layout.frames] == sorted(steps)


@settings(max_examples=50)
@given(_outlines())
def test_arrows_go_through_no_box_on_their_way(outline: Outline) -> None:
    layout = layout_of(outline)
    ways = [Placed(outline.boxes[0], x, y, end - x, 1) for way in layout.passes.values() for x, end, y in way]
    assert [(way, box.box.id) for way in ways for box in layout.boxes.values() if _overlap(way, box)] == []


def test_topics_stand_outside_of_the_frames() -> None:
    """What a sub-topology reads stands before its frame, what it writes behind."""
    layout = layout_of(_outline())
    topics = [one for one in layout.boxes.values() if one.box.kind != "step"]
    assert [(one.box.id, frame.title) for one in topics for frame in layout.frames if _overlap(one, frame)] == []


def test_arrows_go_from_left_to_right() -> None:
    layout = layout_of(_outline())
    back = [
        (source, target)
        for source, target in _outline().arrows
        if layout.boxes[source].x + layout.boxes[source].width >= layout.boxes[target].x
    ]
    assert back == []
