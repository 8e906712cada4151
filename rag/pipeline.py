"""The document pipeline as one value: its topics, its steps, and how they are put into an app's graph.

    documents -> ingest -> index-updates, documents-status            queries -> answer -> answers, retrievals
    index-updates -> reembed-<model> -> index-updates-<model>         where a model is to take another's place
    index-updates -> changed-chunks -> contradictions                 where they are looked for

    pipeline = document_pipeline(app)                    # adds both halves to the app
    pipeline.bind(broker, open_database)                 # before the worker runs: where the index reads, and where it is kept

    queries -> answer <-> shard-queries -> search -> shard-hits            where the index is in shards (`sharded`)

The two halves are sub-topologies of one app or of two (`ingest=False`, `answer=False`): they meet in the topic index-updates
and nowhere else. So may the searches of an index in shards (`search=False`), which answers wait for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from ..state.store import Database
from ..topics.broker import Broker
from ..topics.topic import Topic, topic
from ..workers.app import App
from ..workers.errors import PlanError
from ..workers.graph import Work
from .adaptive import AdaptiveSettings
from .answer_work import AnswerParts, Heard
from .asked_again import AskedAgain
from .contradiction import ContradictionSettings
from .document_topics import SHARD_TOPICS, DocumentTopics
from .drafts import Drafts
from .embedder import Embedder
from .messages import Strategy
from .operators.answer import ANSWERS, RETRIEVALS, Answer
from .operators.changed_chunks import ChangedChunks
from .operators.contradictions import Contradictions
from .operators.ingest import STATUS, UPDATES, Ingest
from .operators.reembed import Reembed, ReembedSettings
from .operators.search import Search
from .paid_calls import PaidCalls
from .parse_job import Part
from .settings import AnswerSettings, IngestSettings, PaidCallSettings, RetrievalSettings, ShardSettings, ViewSettings
from .shard_asker import ShardAsker, ShardTopics
from .shard_requests import ShardRequests
from .shard_views import Shards, ShardViews, check_in_process
from .sharded_index import ShardedIndex
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
    models: Mapping[str, Part] = field(default_factory=dict)
    """Embedders beside that of `ingest`, by a name of yours: each has the chunks with its own vectors in `index-updates-<name>`."""
    answer_model: str | None = None
    """Answer from the chunks of this one of `models`, by its vectors; None: from index-updates."""
    contradictions: ContradictionSettings | None = None
    """None: nobody looks for any."""

    def __post_init__(self) -> None:
        if self.contradictions is not None:
            _check_contradictions(self.contradictions, self.answer)
        if self.answer_model is not None and self.answer_model not in self.models:
            there = ", ".join(self.models) or "none"
            raise PlanError(f"answer_model: no model {self.answer_model!r}; there are {there}")

    @property
    def answered_topic(self) -> str:
        """What answering workers keep their index of."""
        return self.topics.index_updates if self.answer_model is None else self.model_topic(self.answer_model)

    def model_topic(self, model: str) -> str:
        """Of one of `models`."""
        return f"{self.topics.index_updates}-{model}"

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
        rewriter: Part | str | None = None,
        llm: Part | str = "quote",
        strategy: Strategy = "adaptive",
        adaptive: AdaptiveSettings | None = None,
        k: int = 5,
        sharded: ShardSettings | bool | None = None,
        topics: dict[str, str] | None = None,
        partitions: int | None = None,
        models: Mapping[str, Part | str] | None = None,
        answer_model: str | None = None,
        contradictions: ContradictionSettings | Part | str | None = None,
    ) -> Self:
        """The usual settings with these parts (a name, or `Part(name, options)`); the same embedder on both sides.

        `sharded`: true, or how (`ShardSettings`): each worker holds some partitions of the index, not the whole.
        `contradictions`: a judge, or how they are looked for. Raises PlanError for an `answer_model` that is none of `models`.
        """
        same = _part(embedder)
        others = {name: _part(one) for name, one in (models or {}).items()}
        return cls(
            DocumentTopics.of(app, **(topics or {})),
            IngestSettings(embedder=same, splitter=_part(splitter)),
            AnswerSettings(
                same if answer_model is None else others.get(answer_model, same),
                _part(llm),
                RetrievalSettings(k=k, ranking=_part(ranking), reranker=None if reranker is None else _part(reranker)),
                rewriter=None if rewriter is None else _part(rewriter),
                strategy=strategy,
                adaptive=adaptive or AdaptiveSettings(),
                view=ViewSettings(_part(index)),
                sharded=ShardSettings() if sharded is True else sharded or None,
            ),
            partitions,
            others,
            answer_model,
            ContradictionSettings(_part(contradictions)) if isinstance(contradictions, Part | str) else contradictions,
        )


def _part(named: Part | str) -> Part:
    return Part(named) if isinstance(named, str) else named


def _check_contradictions(settings: ContradictionSettings, answer: AnswerSettings) -> None:
    """Raises PlanError."""
    if answer.sharded is not None:
        raise PlanError("contradictions need the whole index in one process, not in shards: leave out one of the two")
    if settings.judge.name == "llm" and answer.llm.name == "quote":
        raise PlanError(
            "contradictions: the judge 'llm' needs a model, and 'quote' is none; name an llm, or another judge"
        )


@dataclass(frozen=True, slots=True)
class _Bound:
    """What a pipeline gets from the process it runs in."""

    broker: Broker
    open_database: Callable[[], Database]
    folder: Path | None
    open_shard: Callable[[int], Database] | None


@dataclass
class DocumentPipeline:
    """The steps, and what they need from the process that runs them."""

    settings: DocumentSettings
    clock: Callable[[], float] = time.monotonic
    """Seconds; for `took_ms` only."""
    ingest: Ingest = field(init=False)
    answer: Answer = field(init=False)
    search: Search | None = field(init=False, default=None)
    """Where the index is in shards."""
    view: IndexView | None = field(init=False, default=None)
    """Of this process, while a task of `answer` runs: its readiness, its positions."""

    heard: list[Heard] = field(default_factory=list)
    """Who in this process hears answers while they are made, piece by piece (`rag/answer_work.py`)."""

    def __post_init__(self) -> None:
        self._bound: _Bound | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.ingest = Ingest(self.settings.ingest, self.clock, self.paid_embeddings, self.bind)
        shared = Shared(self._answer_parts)
        self.answer = Answer(self.settings.answer, shared, self.bind, self.settings.topics)
        if self.settings.answer.sharded is not None:
            check_in_process(self.settings.answer)
            self._shards: Shared[Shards] = Shared(self._shard_views)
            self.search = Search(self.settings.answer, self._shards, self.bind)

    def bind(
        self,
        broker: Broker,
        open_database: Callable[[], Database],
        folder: Path | None = None,
        open_shard: Callable[[int], Database] | None = None,
    ) -> None:
        """Where the index is read from, and the database of its own it is kept in (one a process; `folder` beside it).

        Of an index in shards each is kept in one of its own (`open_shard`, by partition; None: what `open_database` gives each time).

        Called in the event loop that the worker will run in, the index begins to catch up before the first question comes.
        """
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        self._bound = _Bound(broker, open_database, folder, open_shard)
        self.answer.parts.note_loop()
        if self.search is not None:
            self._shards.note_loop()

    def topic(self, name: str) -> Topic:
        """One of `document_topics.TOPICS` (or of those that only some pipelines have), declared as it should be."""
        if name in SHARD_TOPICS and self.settings.answer.sharded is not None:
            kept = f"{self.settings.answer.sharded.retention_ms}ms"
            named = getattr(self.settings.topics, name)
            return topic(named, None, codec="raw", partitions=self.settings.partitions, retention=kept)
        compacted = name in {"documents", "index_updates", "documents_status", "contradictions"}
        made = self._declared(getattr(self.settings.topics, name), "compact" if compacted else "delete")
        if name == "contradictions_changes":
            made = replace(made, partitions=1)  # whose only task holds all pairs
        if name in {"documents", "index_updates", "contradictions_changes"}:
            return replace(made, dead_letters=self.settings.topics.dead_letters, on_bad_record="dead_letter")
        return made

    def answered_topic(self) -> Topic:
        """What answering workers keep their index of."""
        model = self.settings.answer_model
        return self.topic("index_updates") if model is None else self.model_topic(model)

    def model_topic(self, model: str) -> Topic:
        """The chunks of one of `models`."""
        return self._declared(self.settings.model_topic(model), "compact")

    def _declared(self, name: str, cleanup: Literal["compact", "delete"]) -> Topic:
        return topic(name, None, codec="raw", cleanup=cleanup, partitions=self.settings.partitions)

    def _answer_parts(self) -> AnswerParts:
        bound, settings = self._binding(), self.settings.answer
        parts = AnswerParts(
            settings,
            self._view,
            self.clock,
            self._loop,
            self.answer.parts.closed,
            ask_again=AskedAgain(bound.broker, self.settings.topics.queries).send,
            paid=self._told_to(bound.broker),
            paid_embeddings=self._embeddings_told_to(bound.broker, settings.paid_calls),
            heard=self.heard,
            drafts=Drafts(bound.broker, self.settings.topics.answer_drafts),
            sharded=None if settings.sharded is None else self._sharded(bound.broker, settings.sharded),
        )
        self.view = None if parts.sharded is not None else parts.view
        return parts

    def _told_to(self, broker: Broker) -> PaidCalls | None:
        settings = self.settings.answer.paid_calls
        return PaidCalls(broker, self.settings.topics.paid_calls, settings) if settings.retention_ms else None

    def paid_embeddings(self) -> PaidCalls | None:
        """Where documents' embeddings are told; None where no broker is bound."""
        if self._bound is None:
            return None
        return self._embeddings_told_to(self._bound.broker, self.settings.ingest.paid_calls)

    def _embeddings_told_to(self, broker: Broker, settings: PaidCallSettings) -> PaidCalls | None:
        return PaidCalls(broker, self.settings.topics.paid_embeddings, settings) if settings.retention_ms else None

    def _sharded(self, broker: Broker, settings: ShardSettings) -> ShardedIndex:
        answer, asker = self.settings.answer, ShardAsker(broker, self._shard_topics(), settings)
        return ShardedIndex(asker, answer.retrieval, fresh_timeout_ms=answer.fresh_timeout_ms)

    def _shard_topics(self) -> ShardTopics:
        topics = self.settings.topics
        return ShardTopics(self.settings.answered_topic, topics.shard_queries, topics.shard_hits)

    def _shard_views(self) -> Shards:
        requests = partial(ShardRequests, self._binding().broker, self._shard_topics())
        return ShardViews(self.settings.answer, self._view, self._loop, self._shards.closed, requests=requests)

    def _view(self, embedder: Embedder, shard: int | None = None) -> IndexView:
        """Of the whole index, or of one of its partitions."""
        bound, answer = self._binding(), self.settings.answer
        open_database, folder = bound.open_database, bound.folder
        if shard is not None:
            open_database = partial(bound.open_shard, shard) if bound.open_shard else open_database
            folder = folder / f"shard-{shard}" if folder else None
        return IndexView(
            bound.broker,
            self.settings.answered_topic,
            embedder.fingerprint(),
            embedder.dimensions,
            open_database,
            settings=answer.view,
            language=answer.retrieval.language,
            folder=folder,
            only=shard,
        )

    def _binding(self) -> _Bound:
        if self._bound is None:
            raise PlanError(
                "the document pipeline is not bound: call pipeline.bind(broker, open_database) before it runs"
            )
        return self._bound


ToBind = Answer | Search | Contradictions | Ingest | Reembed


def bind_answers(
    app: App,
    broker: Broker,
    open_database: Callable[[], Database],
    folder: Path | None = None,
    open_shard: Callable[[int], Database] | None = None,
) -> list[Answer]:
    """Binds every step of an app that has to do with an index or with paid calls, for whoever runs apps.

    Gives the `answer` steps; none: no questions here.
    """
    steps = [node.step for node in app.graph if isinstance(node, Work) and isinstance(node.step, ToBind)]
    for step in steps:
        step.bind(broker, open_database, folder, open_shard)
    return [step for step in steps if isinstance(step, Answer)]


def reembed(app: App, pipeline: DocumentPipeline) -> None:
    """Adds a step for each of `models`, to this app or to one of its own, which may be started and stopped by itself."""
    if pipeline.settings.models:
        updates = app.records(pipeline.topic("index_updates"))
        for name, embedder in pipeline.settings.models.items():
            settings = ReembedSettings(embedder, pipeline.settings.ingest.vector_type)
            updates.then(Reembed(settings, pipeline.paid_embeddings, pipeline.bind), name=f"reembed-{name}").to(
                pipeline.model_topic(name)
            )


def contradictions(app: App, pipeline: DocumentPipeline) -> None:
    """Adds the steps that look for contradictions, where they are set, to this app or to one of its own."""
    settings = pipeline.settings.contradictions
    if settings is not None:
        updates = app.records(pipeline.answered_topic())
        changes = pipeline.topic("contradictions_changes")
        updates.then(ChangedChunks(), name="changed-chunks").to(changes)
        step = Contradictions(settings, pipeline.answer.parts, pipeline.bind)
        app.records(changes).then(step, name="contradictions").to(pipeline.topic("contradictions"))


def document_pipeline(
    app: App,
    settings: DocumentSettings | None = None,
    *,
    ingest: bool = True,
    answer: bool = True,
    search: bool = True,
    **options: Any,
) -> DocumentPipeline:
    """Adds the pipeline to the app. `options` are those of `DocumentSettings.of` where no settings are given.

    `search`: whether this app's workers hold the shards of an index that is in shards; without effect for one that is not.
    """
    pipeline = DocumentPipeline(settings or DocumentSettings.of(app.name, **options))
    if ingest:
        documents = app.records(pipeline.topic("documents")).then(pipeline.ingest, name="ingest")
        documents.output(UPDATES).to(pipeline.topic("index_updates"))
        documents.output(STATUS).to(pipeline.topic("documents_status"))
        reembed(app, pipeline)
    if answer:
        questions = app.records(pipeline.topic("queries")).then(pipeline.answer, name="answer")
        questions.output(ANSWERS).to(pipeline.topic("answers"))
        questions.output(RETRIEVALS).to(pipeline.topic("retrievals"))
        contradictions(app, pipeline)
    if search and pipeline.search is not None:
        requests = app.records(pipeline.topic("shard_queries")).then(pipeline.search, name="search")
        requests.to(pipeline.topic("shard_hits"), key="key")
    return pipeline
