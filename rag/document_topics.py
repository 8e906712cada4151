"""Names of a document pipeline's topics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

TOPICS = (
    "documents",
    "index_updates",
    "documents_status",
    "queries",
    "answers",
    "retrievals",
    "paid_calls",
    "paid_embeddings",
    "dead_letters",
)

SHARD_TOPICS = ("shard_queries", "shard_hits")
"""Of an index in shards; others have no such topics."""

CONTRADICTION_TOPICS = ("contradictions", "contradictions_changes")
"""Of a pipeline that looks for contradictions: what it finds, and the keys of chunks that changed, on their way to one task."""

DRAFT_TOPICS = ("answer_drafts",)
"""Made by workers as they start: answers while they are made (`rag/drafts.py`)."""


@dataclass(frozen=True, slots=True)
class DocumentTopics:
    """Names of the topics; `DocumentTopics.of("shop")` gives the usual ones."""

    documents: str
    index_updates: str
    documents_status: str
    queries: str
    answers: str
    retrievals: str
    paid_calls: str
    paid_embeddings: str
    dead_letters: str
    shard_queries: str = ""
    shard_hits: str = ""
    contradictions: str = ""
    contradictions_changes: str = ""
    answer_drafts: str = ""

    @classmethod
    def of(cls, app: str, **names: str) -> Self:
        """`<app>.documents`, `<app>.index-updates`, ..., but for those named."""
        known = (*TOPICS, *SHARD_TOPICS, *CONTRADICTION_TOPICS, *DRAFT_TOPICS)
        return cls(**({name: f"{app}.{name.replace('_', '-')}" for name in known} | names))
