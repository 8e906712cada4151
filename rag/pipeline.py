"""The document pipeline as one value: its topics, its steps, and how they are put into an app's graph.

    documents -> ingest -> index-updates, documents-status            queries -> answer -> answers, retrievals

    pipeline = document_pipeline(app)                    # adds both halves to the app
    pipeline.bind(broker, open_database)                 # before the worker runs: where the index reads, and where it is kept

The two halves are sub-topologies of one app or of two (`ingest=False`, `answer=False`): they meet in the topic index-updates
and nowhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from ..state.store import Database
from ..topics.broker import Broker
from ..topics.topic import Topic, topic
from ..workers.app import App
from ..workers.errors import PlanError
from ..workers.graph import Work
from .adaptive import AdaptiveSettings
from .answer_work import AnswerParts, Heard
from .asked_again import AskedAgain
from .document_topics import DocumentTopics
from .embedder import Embedder
from .messages import Strategy
from .operators.answer import ANSWERS, RETRIEVALS, Answer
from .operators.ingest import STATUS, UPDATES, Ingest
from .parse_job import Part
from .settings import AnswerSettings, IngestSettings, RetrievalSettings, ViewSettings
from .shared import Shared
from .view import IndexView


@dataclass(frozen=True, slots=True)
class DocumentSettings:
    """Everything a document pipeline is set by."""

    topics: DocumentTopics
    ingest: IngestSettings = IngestSettings()
    answer: AnswerSettings = AnswerSettings()
    partitions: int | None = None
    """Of topics that are made; None: as the broker makes them."""

    @classmethod
    def of(
        cls,
        app: str,
        *,
        embedder: Part | str = "local",
        splitter: Part | str = "recursive",
        index: Part | str = "auto",
        ranking: Part | str = "coverage",
        reranker: Part | str | None = None,
        llm: Part | str = "quote",
        strategy: Strategy = "adaptive",
        adaptive: AdaptiveSettings | None = None,
        k: int = 5,
        topics: dict[str, str] | None = None,
        partitions: int | None = None,
    ) -> Self:
        """The usual settings with these parts (a name, or `Part(name, options)`); the same embedder on both sides."""
        same = _part(embedder)
        return cls(
            DocumentTopics.of(app, **(topics or {})),
            IngestSettings(embedder=same, splitter=_part(splitter)),
            AnswerSettings(
                same,
                _part(llm),
                RetrievalSettings(k=k, ranking=_part(ranking), reranker=None if reranker is None else _part(reranker)),
                strategy=strategy,
                adaptive=adaptive or AdaptiveSettings(),
                view=ViewSettings(_part(index)),
            ),
            partitions,
        )


def _part(named: Part | str) -> Part:
    return Part(named) if isinstance(named, str) else named


@dataclass
class DocumentPipeline:
    """The steps, and what they need from the process that runs them."""

    settings: DocumentSettings
    clock: Callable[[], float] = time.monotonic
    """Seconds; for `took_ms` only."""
    ingest: Ingest = field(init=False)
    answer: Answer = field(init=False)
    view: IndexView | None = field(init=False, default=None)
    """Of this process, while a task of `answer` runs: its readiness, its positions."""

    heard: list[Heard] = field(default_factory=list)
    """Who in this process hears answers while they are made, piece by piece (`rag/answer_work.py`)."""

    def __post_init__(self) -> None:
        self._open_view: Callable[[Embedder], IndexView] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked_again: AskedAgain | None = None
        self.ingest = Ingest(self.settings.ingest, self.clock)
        shared = Shared(self._answer_parts, AnswerParts.close)
        self.answer = Answer(self.settings.answer, shared, self.bind, self.settings.topics)

    def bind(self, broker: Broker, open_database: Callable[[], Database], folder: Path | None = None) -> None:
        """Where the index is read from, and the database of its own it is kept in (one a process; `folder` beside it).

        Called in the event loop that the worker will run in, the index begins to catch up before the first question comes.
        """
        answer = self.settings.answer
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        self.answer.parts.note_loop()

        def open_view(embedder: Embedder) -> IndexView:
            return IndexView(
                broker,
                self.settings.topics.index_updates,
                embedder.fingerprint(),
                embedder.dimensions,
                open_database,
                settings=answer.view,
                language=answer.retrieval.language,
                folder=folder,
            )

        self._open_view = open_view
        self._asked_again = AskedAgain(broker, self.settings.topics.queries)

    def topic(self, name: str) -> Topic:
        """One of `document_topics.TOPICS`, declared as it should be."""
        compacted = name in {"documents", "index_updates", "documents_status"}
        full = getattr(self.settings.topics, name)
        made = topic(
            full, None, codec="raw", cleanup="compact" if compacted else "delete", partitions=self.settings.partitions
        )
        if name == "documents":
            return replace(made, dead_letters=self.settings.topics.dead_letters, on_bad_record="dead_letter")
        return made

    def _answer_parts(self) -> AnswerParts:
        if self._open_view is None:
            raise PlanError(
                "the document pipeline is not bound: call pipeline.bind(broker, open_database) before it runs"
            )
        parts = AnswerParts(
            self.settings.answer,
            self._open_view,
            self.clock,
            self._loop,
            self.answer.parts.closed,
            ask_again=None if self._asked_again is None else self._asked_again.send,
            heard=self.heard,
        )
        self.view = parts.view
        return parts


def bind_answers(
    app: App, broker: Broker, open_database: Callable[[], Database], folder: Path | None = None
) -> list[Answer]:
    """Binds every `answer` step of an app, for whoever runs apps; those found (none: the app answers no questions)."""
    steps = [node.step for node in app.graph if isinstance(node, Work) and isinstance(node.step, Answer)]
    for step in steps:
        step.bind(broker, open_database, folder)
    return steps


def document_pipeline(
    app: App, settings: DocumentSettings | None = None, *, ingest: bool = True, answer: bool = True, **options: Any
) -> DocumentPipeline:
    """Adds the pipeline to the app. `options` are those of `DocumentSettings.of` where no settings are given."""
    pipeline = DocumentPipeline(settings or DocumentSettings.of(app.name, **options))
    if ingest:
        documents = app.records(pipeline.topic("documents")).then(pipeline.ingest, name="ingest")
        documents.output(UPDATES).to(pipeline.topic("index_updates"))
        documents.output(STATUS).to(pipeline.topic("documents_status"))
    if answer:
        questions = app.records(pipeline.topic("queries")).then(pipeline.answer, name="answer")
        questions.output(ANSWERS).to(pipeline.topic("answers"))
        questions.output(RETRIEVALS).to(pipeline.topic("retrievals"))
    return pipeline
