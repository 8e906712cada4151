"""`millstream evaluate`: offline, over the packaged example and over files of one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from millstream.ops.commands.evaluate import app
from millstream.ops.errors import InputError
from millstream.ops.evaluation.plan import name_of, plan_of
from millstream.ops.evaluation.svg import Axis, Point, as_svg, front, labelled, ticks
from millstream.rag.errors import PartError
from millstream.rag.evaluation.summary import Summary, summary

PIPELINE = "app: help\ndocuments: {embedder: hashing, llm: quote, retrieve: {k: 2}}\n"
BOTH = "one: strategy=fixed k=1", "adaptive: strategy=adaptive"
NAMES = ["one", "adaptive"]


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def figures(table: str) -> dict[str, list[str]]:
    return {line[:18].strip(): line[18:].split() for line in table.splitlines()}


@pytest.fixture
def pipeline(tmp_path: Path) -> str:
    file = tmp_path / "help.yaml"
    file.write_text(PIPELINE)
    return str(file)


def test_the_example_is_measured_in_two_configurations(tmp_path: Path, pipeline: str) -> None:
    """With no network, no key and no model: the hashing embedder and the quoting model."""
    picture, outcomes = tmp_path / "curve.svg", tmp_path / "all.jsonl"
    words = [word for one in BOTH for word in ("--with", one)]
    table = figures(run("--pipeline", pipeline, *words, "--svg", str(picture), "--outcomes", str(outcomes)))
    assert table[""] == NAMES
    assert table["questions"] == ["24", "24"]
    assert all(float(share) > 0.8 for name in ("R@1", "MRR", "right") for share in table[name])
    assert table["calls of the model"][0] == "1.00"
    assert float(table["prompt tokens"][0]) < float(table["prompt tokens"][1])
    lines = [json.loads(line) for line in outcomes.read_text().splitlines()]
    assert [line["configuration"] for line in lines] == [NAMES[0]] * 24 + [NAMES[1]] * 24
    assert lines[0]["sources"] == ["history.md"]
    drawn = ElementTree.fromstring(picture.read_text())
    assert len(drawn.findall(".//{*}circle")) == 2


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("k=3", ("k=3", "k=3")),
        ("three: k=3 reranker=none", ("three", "k=3 reranker=none")),
        ("'price={prompt: 1, completion: 2}'", ("'price={prompt: 1, completion: 2}'",) * 2),
        ("large: 'llm={openai: {url: http://x}}'", ("large", "'llm={openai: {url: http://x}}'")),
        ("", ("", "")),
    ],
)
def test_a_configuration_may_have_a_name(text: str, named: tuple[str, str]) -> None:
    assert name_of(text) == named


def test_the_evidence_is_fitted(pipeline: str) -> None:
    told = run("--pipeline", pipeline, "--calibrate")
    assert re.search(r"^evidence: \{best: [\d.e+-]+, gap: [\d.e+-]+, intercept: -?[\d.e+]+\}$", told, re.MULTILINE)
    assert "over 44 rows" in told
    assert "ask more questions" in told


def test_questions_of_one_s_own(tmp_path: Path, pipeline: str) -> None:
    (tmp_path / "q.jsonl").write_text(
        '{"question": "Where is the lamp made?", "answer": "Jena", "document": "lamp.md"}'
    )
    (tmp_path / "d.jsonl").write_text('{"uri": "lamp.md", "text": "The lamp is made in Jena."}')
    words = (str(tmp_path / "q.jsonl"), "--documents", str(tmp_path / "d.jsonl"), "--pipeline", pipeline)
    table = figures(run(*words))
    assert (table["R@1"], table["right"], table["exact match"], table["cost"]) == (
        ["1.000"],
        ["1.000"],
        ["0.000"],
        ["-"],
    )


def test_wrong_input_is_named(tmp_path: Path, pipeline: str) -> None:
    shop = tmp_path / "shop.yaml"
    shop.write_text("app: shop\ntopics: {a: {schema: {x: int}}}\nstreams: [{from: a, to: b}]\n")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    for words, error, reason in (
        ((empty, None, pipeline, []), InputError, "questions need documents"),
        ((empty, empty, pipeline, []), InputError, "0 questions over 0 documents"),
        ((tmp_path / "no", tmp_path, pipeline, []), InputError, "cannot be read"),
        ((None, None, str(shop), []), InputError, "answers no questions"),
        ((None, None, pipeline, ["k=x"]), PartError, "expected a number"),
    ):
        with pytest.raises(error, match=reason):
            plan_of(*words)  # type: ignore[arg-type]


def figure(name: str, right: float, tokens: float, cost: float | None = None) -> Summary:
    blank = summary(name, [])
    return Summary(**({key: getattr(blank, key) for key in Summary.__slots__} | {
        "questions": 10, "right": right, "prompt_tokens": tokens, "cost": cost,
    }))  # type: ignore[arg-type]  # fmt: skip


def test_the_picture_shows_every_point_by_name_on_both_grounds() -> None:
    svg = as_svg([figure("k=1", 0.7, 100), figure("k=3 <b>", 0.8, 300), figure("dear", 0.75, 400)])
    drawn = ElementTree.fromstring(svg)
    assert [text.text for text in drawn.findall(".//{*}g/{*}text")] == ["k=1", "k=3 <b>", "dear"]
    assert "prefers-color-scheme: dark" in svg
    assert "tokens a question" in svg
    assert not re.search(r"<script|on\w+=|href|url\(", svg)
    (line,) = drawn.findall(".//{*}polyline")
    assert len((line.get("points") or "").split()) == 2, "what costs more and is no better is not on the front"
    assert "cost a question" in as_svg([figure("a", 0.7, 1, cost=0.5)])
    assert ElementTree.fromstring(as_svg([summary("nothing judged", [])])) is not None


def test_the_front_is_what_no_other_beats() -> None:
    points = [Point("a", 1, 0.5), Point("b", 2, 0.4), Point("c", 2, 0.7), Point("d", 3, 0.7), Point("e", 1, 0.3)]
    assert [point.name for point in front(points)] == ["a", "c"]
    assert front([]) == []


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, (0, 2, 4, 6, 8, 10)),
        (0, 602, (0, 200, 400, 600, 800)),
        (0.61, 0.78, (0.6, 0.65, 0.7, 0.75, 0.8)),
        (0, 0, (0, 0.0)),
    ],
)
def test_ticks_are_round_and_around(low: float, high: float, expected: tuple[float, ...]) -> None:
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert len(found) >= 2
    if high > low:
        assert found == expected


def test_long_names_stay_inside() -> None:
    """Wherever the point is; the whole name is in its title."""
    name = "strategy=adaptive reranker={http: {url: http://127.0.0.1/rerank}}"
    drawn = ElementTree.fromstring(as_svg([figure(name, 0.5, tokens) for tokens in (1, 49, 51, 100)]))
    for group in drawn.findall(".//{*}g"):
        (text,), (title,) = group.findall("{*}text"), group.findall("{*}title")
        start, width = float(text.get("x") or 0), 7.5 * len(text.text or "")
        left = start - width if text.get("anchor", text.get("text-anchor")) == "end" else start
        assert 0 <= left
        assert left + width <= 720
        assert (title.text or "").startswith(name)


def test_labels_do_not_lie_on_each_other() -> None:
    across, up = Axis((0, 10), 0, 700), Axis((0, 1), 400, 0)
    heights = [y for _, y in labelled([Point("same", 5, 0.5)] * 3 + [Point("other", 0, 0.5)], across, up)]
    assert len(set(heights[:3])) == 3
    assert min(abs(a - b) for a in heights[:3] for b in heights[:3] if a != b) >= 16
    assert heights[3] == heights[0]
