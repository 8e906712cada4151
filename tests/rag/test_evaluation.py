"""Questions with what is right: how they are read, how answers and rankings are scored, how the evidence is fitted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millstream.rag.adaptive import AdaptiveSettings, Evidence
from millstream.rag.document import Document, Price
from millstream.rag.errors import MessageError, PartError
from millstream.rag.evaluation.calibrate import auc, calibrated, rows_of
from millstream.rag.evaluation.cases import Case, read_cases, read_documents
from millstream.rag.evaluation.configuration import configured
from millstream.rag.evaluation.corpus import Corpus, corpus_of
from millstream.rag.evaluation.run import agreed, judged
from millstream.rag.evaluation.scores import exact_match, f1, held, ndcg, quantile, recall_at, reciprocal_rank
from millstream.rag.evaluation.summary import summary
from millstream.rag.llms.scripted import Scripted
from millstream.rag.parse_job import Part
from millstream.rag.settings import AnswerSettings, IngestSettings


@pytest.mark.parametrize(
    ("said", "expected", "exact", "overlap", "holds"),
    [
        ("Jena", ["Jena"], 1, 1, 1),
        ("The Jena! [1]", ["jena"], 1, 1, 1),
        ("It is made in Jena [1, 2].", ["Jena"], 0, 2 / 6, 1),
        ("made in Jena", ["in Jena", "Bonn"], 0, 0.8, 1),
        ("Jenaer Glas", ["Jena"], 0, 0, 0),
        ("Bonn", ["Jena"], 0, 0, 0),
        ("", ["Jena"], 0, 0, 0),
        ("Jena", [], 0, 0, 0),
        ("anything", ["the"], 0, 0, 0),
    ],
)
def test_answers_are_compared_as_squad_does(
    said: str, expected: list[str], exact: int, overlap: float, holds: int
) -> None:
    assert (exact_match(said, expected), held(said, expected)) == (exact, holds)
    assert f1(said, expected) == pytest.approx(overlap)


@pytest.mark.parametrize(
    ("relevant", "there_are", "first", "five", "rank", "gain"),
    [
        ([True], 1, 1, 1, 1, 1),
        ([False, True], 1, 0, 1, 0.5, 1 / math.log2(3)),
        ([False] * 5 + [True], 1, 0, 0, 1 / 6, 1 / math.log2(7)),
        ([False, False], 1, 0, 0, 0, 0),
        ([], 1, 0, 0, 0, 0),
        ([True, False, True], 2, 1, 1, 1, (1 + 0.5) / (1 + 1 / math.log2(3))),
        ([True, True], 5, 1, 1, 1, 1),
    ],
)
def test_rankings(relevant: list[bool], there_are: int, first: float, five: float, rank: float, gain: float) -> None:
    assert (recall_at(relevant, 1), recall_at(relevant, 5), reciprocal_rank(relevant)) == (first, five, rank)
    assert ndcg(relevant, there_are) == pytest.approx(gain)


@pytest.mark.parametrize(
    ("values", "share", "expected"), [([], 0.5, 0), ([3, 1, 2], 0.5, 2), ([1, 2], 0.95, 2), ([7], 0.01, 7)]
)
def test_quantiles_are_values_that_were_there(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == expected


def test_cases_are_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(
        '{"question": "a?", "answer": "x", "document": "d"}\n\n{"question": "b?", "answers": ["x", "y"], "documents": ["d", "e"], '
        '"id": "b"}\n{"question": "c?", "answer": null}\n{"question": "d?"}\n'
    )
    assert read_cases(file) == [
        Case("q.jsonl:1", "a?", ("x",), frozenset({"d"})),
        Case("b", "b?", ("x", "y"), frozenset({"d", "e"})),
        Case("q.jsonl:4", "c?", ()),
        Case("q.jsonl:5", "d?", None),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "q.jsonl:2: not JSON"),
        ("{}", r"q.jsonl:2: expected text that is not blank, got None - at \$.question"),
        ('{"question": "a", "answer": 3}', r"at \$.answer"),
        ('{"question": "a", "answers": ["x", ""]}', r"at \$.answers"),
        ('{"question": "a", "documents": [1]}', r"at \$.documents"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "a"}\n' + line)
    with pytest.raises(MessageError, match=reason):
        read_cases(file)


def test_documents_are_a_folder_or_lines(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.md").write_text("text")
    (tmp_path / ".hidden").write_text("no")
    lines = tmp_path / "a" / "d.jsonl"
    lines.write_text('{"uri": "x", "text": "y", "metadata": {"n": 1}}')
    assert [document.uri for document in read_documents(tmp_path)] == ["a/b.md", "a/d.jsonl"]
    assert read_documents(lines) == [Document("x", text="y", content_type="text/plain", metadata={"n": 1})]


TEXTS = {"lamp": "The lamp is made in Jena.", "clock": "The clock is made in Basel.", "train": "Trains leave at noon."}
CASES = [
    Case("1", "Where is the lamp made?", ("Jena",), frozenset({"lamp"})),
    Case("2", "Where is the clock made?", ("Basel",), frozenset({"clock"})),
    Case("3", "When do trains leave?", ("noon",)),
    Case("4", "Who sings tonight?", ()),
    Case("5", "Is the lamp green?"),
]
INGEST = IngestSettings(embedder=Part("hashing"))


async def corpus(texts: dict[str, str] = TEXTS) -> Corpus:
    documents = [Document(uri, text=text, content_type="text/plain") for uri, text in texts.items()]
    return await corpus_of(documents, INGEST, AnswerSettings(embedder=INGEST.embedder))


def scripted(**script: Any) -> AnswerSettings:
    answers = {case.question: case.answers[0] for case in CASES if case.answers}
    llm = Part("scripted", {"answers": answers} | script)
    return AnswerSettings(embedder=INGEST.embedder, llm=llm, strategy="adaptive", price=Price(1, 1))


async def test_every_question_is_asked_and_scored() -> None:
    outcomes = [one async for one in judged(CASES, await corpus(), scripted())]
    figures = summary("x", outcomes)
    assert [one.right for one in outcomes] == [1, 1, 1, 1, None]
    assert [one.exact for one in outcomes] == [1, 1, 1, None, None]
    assert (figures.questions, figures.right, figures.exact, figures.recall_1, figures.mrr) == (5, 1, 1, 1, 1)
    assert (figures.refused, figures.refused_wrongly, figures.invented, figures.errors) == (0.4, 0, 0, 0)
    assert figures.rounds == (1 + 1 + 1 + 2 + 2) / 5
    assert figures.cost == pytest.approx(5 * (figures.prompt_tokens + figures.completion_tokens) / 1e6)
    assert 0 < figures.p50_ms <= figures.p95_ms


async def test_what_goes_wrong_with_one_question_is_counted() -> None:
    outcomes = [one async for one in judged(CASES, await corpus(), scripted(fails=1))]
    figures = summary("x", outcomes)
    assert (figures.errors, outcomes[0].right, outcomes[1].right) == (1, 0, 1)
    assert "this call fails" in (outcomes[0].answer.error or "")


async def test_the_judge_is_asked_whether_two_answers_are_one() -> None:
    """Both answers are the documents of its prompt; what is no yes is a no."""
    says = Scripted({CASES[0].question: "yes"})
    assert await agreed(says, CASES[0], "made in yes, Jena") == 1
    (prompt,) = says.prompts
    assert [(one.uri, one.text) for one in prompt.passages] == [("expected", "Jena"), ("given", "made in yes, Jena")]
    assert "yes or no" in prompt.messages(as_json=False)[1]["content"]
    assert await agreed(Scripted({}), CASES[0], "Bonn") == 0


async def test_documents_that_cannot_be_read_are_told() -> None:
    documents = [Document("a.pdf", content=b"junk", content_type="application/pdf"), Document("b.txt", text="fine")]
    found = await corpus_of(documents, INGEST, AnswerSettings(embedder=INGEST.embedder))
    assert (list(found.failed), len(found.view)) == (["a.pdf"], 1)


def test_a_logistic_regression_finds_the_weights_its_rows_were_drawn_by() -> None:
    draw = np.random.default_rng(7)
    best, gap = draw.normal(14, 4, 6_000), draw.exponential(2, 6_000)
    likely = 1 / (1 + np.exp(-(0.58 * best + 0.57 * gap - 8.13)))
    rows = [(b, g, bool(yes)) for b, g, yes in zip(best, gap, draw.random(6_000) < likely, strict=True)]
    found = calibrated(rows)
    assert found.evidence.best == pytest.approx(0.58, abs=0.05)
    assert found.evidence.gap == pytest.approx(0.57, abs=0.08)
    assert found.evidence.intercept == pytest.approx(-8.13, abs=0.6)
    assert (found.rows, found.doubt) == (6_000, "")


@pytest.mark.parametrize(
    ("rows", "doubt"),
    [
        ([(1.0, 0.0, True), (0.0, 0.0, False)] * 20, "fewer than 100 rows"),
        ([(float(n % 7), 0.0, bool(n % 2)) for n in range(140)], "AUC below"),
        ([(float(n), 0.0, n > 70) for n in range(140)], ""),
    ],
)
def test_a_fit_that_says_little_says_so(rows: list, doubt: str) -> None:
    found = calibrated(rows)
    assert found.doubt.startswith(doubt)
    assert bool(found.doubt) == bool(doubt)
    assert math.isfinite(found.evidence.intercept)


@pytest.mark.parametrize("rows", [[], [(1.0, 0.0, True)] * 5])
def test_there_must_be_something_to_tell_apart(rows: list) -> None:
    with pytest.raises(ValueError, match="calibrating needs questions that name their `document`"):
        calibrated(rows)


@pytest.mark.parametrize(
    ("highs", "lows", "area"), [([2, 3], [1], 1), ([1], [2], 0), ([1], [1], 0.5), ([1, 3], [2], 0.5)]
)
def test_auc_is_the_chance_to_be_above(highs: Sequence[float], lows: Sequence[float], area: float) -> None:
    scores = np.array([*highs, *lows], np.float64)
    assert auc(scores, np.array([True] * len(highs) + [False] * len(lows))) == area


async def test_rows_are_made_with_and_without_the_right_documents() -> None:
    """Two questions name theirs: two rows each; one has no answer: one row; the others say nothing."""
    found = [row async for row in rows_of(CASES, await corpus(), scripted())]
    assert [row[2] for row in found] == [True, False, True, False, False]
    assert all(gap >= 0 for _, gap, _ in found)
    assert found[0][0] > found[1][0]
    assert found[2][0] > found[3][0]


def test_a_configuration_is_changes_to_settings() -> None:
    text = (
        "strategy=adaptive k=7 posterior=true documents_max=9 abstain_below=-3 reranker={none:} no_answer='No idea' "
        "'evidence={best: 1, gap: 2, intercept: -3}' 'price={prompt: 1, completion: 2}' llm=scripted"
    )
    found = configured(AnswerSettings(), text)
    assert (found.strategy, found.retrieval.k, found.no_answer, found.llm) == (
        "adaptive",
        7,
        "No idea",
        Part("scripted"),
    )
    assert found.adaptive == AdaptiveSettings(
        documents_max=9, posterior=True, abstain_below=-3, evidence=Evidence(1, 2, -3)
    )
    assert (found.retrieval.reranker, found.price) == (Part("none"), Price(1, 2))
    assert configured(AnswerSettings(), "") == AnswerSettings()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("stratgy=fixed", "stratgy: no such setting; did you mean 'strategy'"),
        ("strategy=best", "expected one of fixed, adaptive, retrieve, got 'best'"),
        ("k=many", "expected a number, got 'many'"),
        ("k=2.5", "expected a whole number, got 2.5"),
        ("k=true", "expected a number, got True"),
        ("posterior=1", "expected true or false, got 1"),
        ("factor=1", "factor 2"),
        ("price=3", "expected a mapping of numbers"),
        ("'evidence={wrong: 1}'", "unexpected keyword argument 'wrong'"),
        ("'reranker={a: 1, b: 2}'", "expected a part's name"),
        ("k='3", "No closing quotation"),
        ("no_answer=___", "no_answer must have a word"),
    ],
)
def test_a_wrong_configuration_names_its_word(text: str, reason: str) -> None:
    with pytest.raises(PartError, match=reason):
        configured(AnswerSettings(), text)
