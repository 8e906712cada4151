"""Questions: each has one answer, and a follow-up is understood by what was answered before, whichever crash lay between."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson

from millstream.rag.answer_work import AnswerParts
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.messages import Query, write_query
from millstream.rag.operators.answer import ANSWERS, RETRIEVALS, Answer
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentPipeline, DocumentSettings
from millstream.rag.shared import Shared
from millstream.rag.view import IndexView
from millstream.rag.view_state import ViewState
from millstream.workers.app import App
from tests.crashes.case import NAME, Case, Outputs, differences
from tests.crashes.cases_rows import PARTITIONS, by_partition
from tests.rag.running import Running
from tests.rag.shards import record, view

DIMENSIONS = 64
THINGS = ["lamp", "clock", "rope"]
BROKEN = b"no JSON"
SETTINGS = DocumentSettings.of(
    NAME, embedder=Part("hashing", {"dimensions": DIMENSIONS}), strategy="fixed", k=1, partitions=PARTITIONS
)


def _view() -> ViewState:
    texts = [f"The {thing} is made in {thing.title()}town. The {thing} costs {len(thing)} euros." for thing in THINGS]
    vectors = asyncio.run(Hashing(DIMENSIONS).embed(texts, "document"))
    return view([record(f"doc-{t}", text, v) for t, text, v in zip(THINGS, texts, vectors, strict=True)], DIMENSIONS)


VIEW = _view()


class _Still:
    """A view that has come as far as it will: what it reads, and when, is tried elsewhere."""

    is_ready = True

    def __init__(self) -> None:
        self.state = VIEW
        self.listeners: list[Any] = []
        self.restarted: list[Any] = []

    def positions(self) -> dict[int, int]:
        return {}

    async def wait_ready(self, timeout_ms: int) -> None:
        """It is."""

    async def run(self) -> None:
        """There is nothing to follow."""


def _step() -> Answer:
    def parts() -> AnswerParts:
        return AnswerParts(SETTINGS.answer, lambda embedder: cast(IndexView, _Still()), lambda: 0.0)

    pipeline = DocumentPipeline(SETTINGS)
    return Answer(SETTINGS.answer, Shared(parts), pipeline.bind, SETTINGS.topics)


def build(app: App) -> None:
    pipeline = DocumentPipeline(SETTINGS)
    questions = app.records(pipeline.topic("queries")).then(_step(), name="answer")
    questions.output(ANSWERS).to(pipeline.topic("answers"), key="key")
    questions.output(RETRIEVALS).to(pipeline.topic("retrievals"), key="key")


def _questions() -> list[dict[str, Any]]:
    """Conversations of four, each of them about another thing, asked in turn; and what nobody can read."""
    said = ["Where is the {} made?", "And what does it cost?", "Where is the {} made?", "And where is it made?"]
    rows: list[dict[str, Any]] = []
    for turn, question in enumerate(said):
        for number in range(6):
            talk = f"talk-{number}"
            query = Query(f"q{turn}-{number}", question.format(THINGS[number % 3]), stream=talk)
            rows.append({"key": talk, "value": write_query(query)})
    return [*rows[:9], {"key": "broken", "value": BROKEN}, *rows[9:], {"key": "broken", "value": None}]


QUESTIONS = _questions()
INPUT = [[(one["key"].encode(), one["value"]) for one in part] for part in by_partition(QUESTIONS, "key")]


def _told(key: bytes | None, value: bytes | None) -> tuple[Any, ...]:
    """But for what it has cost and how long it took."""
    answer = orjson.loads(value or b"null") or {}
    sources = [source["uri"] for source in answer.get("sources", ())]
    return key, answer.get("question"), answer.get("answer"), sources, answer.get("error"), answer.get("strategy")


async def _expected() -> list[tuple[Any, ...]]:
    """One partition after the other, one question after the other, with no crash."""
    found: list[tuple[Any, ...]] = []
    for part in INPUT:
        running = Running(_step())
        for one in part:
            await running.process([one])
            running.commit()
        found += [_told(key, value) for key, value in running.outputs.get(ANSWERS, [])]
        running.operator.close()
    return found


EXPECTED = asyncio.run(_expected())


def judge(outputs: Outputs) -> list[str]:
    found = [_told(record.key, record.value) for partition in outputs[f"{NAME}.answers"] for record in partition]
    return differences("answers", EXPECTED, found)


CASE = Case("answers", build, {f"{NAME}.queries": INPUT}, judge)
