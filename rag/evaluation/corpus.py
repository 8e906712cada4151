"""Documents -> an index in memory, by the very steps of ingestion: parsed in processes of their own, split, embedded, applied."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ...state.key_value import KeyValueState
from ...state.stores.memory import MemoryDatabase
from ..call_cache import CallCache
from ..document import Document
from ..embedder import Embedder
from ..errors import ParseError
from ..ingest_work import IngestParts, prepare
from ..messages import write_document
from ..settings import AnswerSettings, IngestSettings
from ..view_state import ViewPlan, ViewState


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """What questions are asked of. `failed`: documents that could not be read, and why."""

    view: ViewState
    embedder: Embedder
    failed: dict[str, str]


async def corpus_of(documents: Sequence[Document], ingest: IngestSettings, answer: AnswerSettings) -> Corpus:
    """The embedder is the caller's to close. Raises PartError, EmbeddingError, MessageError."""
    parts = IngestParts(ingest, time.monotonic)
    plan = ViewPlan("", "", parts.model, parts.embedder.dimensions, answer.view.index, answer.retrieval.language)
    view, failed = ViewState(plan, MemoryDatabase()), {}
    cache = CallCache(KeyValueState("vectors"), 0)
    try:
        for number, document in enumerate(documents):
            try:
                prepared = await prepare(document.uri.encode(), write_document(document), None, cache, parts)
                view.apply(0, number + 1, list(prepared.records))
            except ParseError as error:
                failed[document.uri] = str(error)
    finally:
        await parts.pool.close()
    return Corpus(view, parts.embedder, failed)
