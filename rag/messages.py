"""The records of the document pipeline's topics: JSON that any Kafka client can read and write.

    documents         {"uri", "content" (base64) or "text" or "ref", "content_type", "metadata", "modified_at", "version"}; null: deleted
    documents-status  {"state": "indexed" or "failed", "chunks", "embedded", "reused", "stale", "error", "version", "took_ms",
                      "content_type", "metadata", "modified_at"}; null: deleted
    queries           {"id", "question", "k", "filter", "strategy", "model", "fresh_after", "return_sources", "mode", "tenant",
                      "stream", "drafts"};
                      null: a standing question (mode) of this key ends
    answers           {"id", "question", "answer", "no_answer", "sources": [{"uri", "chunk", "text", "score", "metadata", "position"}],
    and retrievals    "strategy": {"rounds", "documents_used", "reranker_failure", "understood_as",
                      "understanding_failure" (the last three where there is something to say)},
                      "rounds": [{"documents", "tokens", "refused"}],
                      "tokens": {"prompt", "completion"}, "cost", "model",
                      "index_position", "took_ms", "revision", "error",
                      "incomplete": {"missing_shards", "reasons"}, where shards of the index did not answer}

The key is the document's id (as a rule its URI), or the query's id. `index-updates`, whose value holds a vector, is in
`updates.py`. Keys are UTF-8. Fields not named here are ignored when read. Reading raises MessageError naming the field and its
value.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import orjson

from .document import Answer, Document, Hit, Tokens
from .errors import MessageError
from .fields import Fields, json_object

Strategy = Literal["fixed", "adaptive", "retrieve"]
STRATEGIES: Final[tuple[Strategy, ...]] = ("fixed", "adaptive", "retrieve")
K_MAX: Final = 100
STREAM_CHARS_MAX: Final = 500
QUESTION_CHARS_MAX: Final = 10_000
DOCUMENT_ID_BYTES_MAX: Final = 4_096
METADATA_BYTES_MAX: Final = 16_384
"""A document's metadata stands in the record of every chunk."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question, and how it wants to be answered."""

    id: str
    question: str
    k: int | None = None
    """Chunks to look up; None: as the pipeline is set."""
    filter: str | Mapping[str, str] | None = None
    """A text, or {"jmespath": ..., "glob": ...}: `filters.py`."""
    strategy: Strategy | None = None
    """`fixed`: k chunks, one prompt. `adaptive`: few, and more while the model refuses (`adaptive.py`), k at most. `retrieve`: the
    chunks themselves, on the topic `retrievals`. None: as the pipeline is set."""
    model: str | None = None
    fresh_after: Mapping[int, int] = field(default_factory=dict)
    """Answer only once the index has passed these offsets of `index-updates` (offset of the last record, by partition)."""
    return_sources: bool = True
    tenant: str | None = None
    """Only chunks whose metadata has this `tenant`."""
    standing: bool = False
    """The answer is kept up to date: a new one whenever it differs, with `revision` + 1, until a record with its key and no value."""
    again: bool = False
    """Written by a worker: a standing question whose documents have changed."""
    stream: str | None = None
    """The conversation it belongs to: what was asked and answered in it before is looked at. The record's key is then this, so that all of
    a conversation is in one partition, and the query's own id is the field `id`."""
    drafts: bool = False
    """Its answer is told piece by piece while it is made, on the topic `answer-drafts` (`drafts.py`)."""
    searched: tuple[str, ...] = ()
    """What is looked up in its place; not on the wire."""


@dataclass(frozen=True, slots=True)
class Status:
    """What became of one version of a document."""

    state: Literal["indexed", "failed"]
    chunks: int = 0
    embedded: int = 0
    """Chunks for which the embedder was asked."""
    reused: int = 0
    """Chunks that were there, or whose vector was in the cache."""
    stale: bool = False
    """An older version is what is found, since this one failed."""
    error: str | None = None
    version: str | int | None = None
    took_ms: int = 0
    content_type: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """With `content_type` and `modified_at` as the document had them: who lists documents reads this topic and no document."""
    modified_at: str | int | None = None

    def of(self, document: Document) -> Status:
        """With what the document says of itself."""
        return replace(
            self,
            version=document.version,
            content_type=document.content_type,
            metadata=document.metadata,
            modified_at=document.modified_at,
        )


def document_id(key: bytes | None) -> str:
    """The document's id: the record's key. Raises MessageError for a null, empty, overlong or undecodable one."""
    if not key:
        raise MessageError("documents: a record needs a key, the document's id")
    if len(key) > DOCUMENT_ID_BYTES_MAX:
        raise MessageError(f"documents: the key has {len(key)} bytes, at most {DOCUMENT_ID_BYTES_MAX}")
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise MessageError(f"documents: the key is not UTF-8: {key[:40]!r}") from None


def read_document(key: bytes | None, value: bytes) -> Document:
    """A record of `documents` that is no deletion."""
    uri = document_id(key)
    fields = Fields(json_object(value, "documents"), "documents")
    content, text, ref = fields.text("content"), fields.text("text"), fields.text("ref")
    if sum(part is not None for part in (content, text, ref)) != 1:
        raise MessageError("documents: expected exactly one of content (base64), text, ref - at $")
    return Document(
        uri=fields.text("uri") or uri,
        content=None if content is None else _base64(content),
        text=text,
        ref=ref,
        content_type=fields.text("content_type") or "",
        metadata=_metadata(fields),
        modified_at=fields.text_or_whole("modified_at"),
        version=fields.text_or_whole("version"),
    )


def _metadata(fields: Fields) -> dict[str, Any]:
    metadata = fields.object("metadata")
    size = len(orjson.dumps(metadata))
    if size > METADATA_BYTES_MAX:
        raise MessageError(f"documents: the metadata has {size} bytes, at most {METADATA_BYTES_MAX} - at $.metadata")
    return metadata


def _base64(content: str) -> bytes:
    try:
        return b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MessageError(f"documents: not base64 ({error}) - at $.content") from None


def write_document(document: Document) -> bytes:
    """The value of a record of `documents`; its key is the document's id, as a rule its URI."""
    body: dict[str, Any] = {"uri": document.uri}
    if document.content is not None:
        body["content"] = b64encode(document.content).decode()
    if document.text is not None:
        body["text"] = document.text
    if document.ref is not None:
        body["ref"] = document.ref
    return orjson.dumps(
        body
        | {
            "content_type": document.content_type,
            "metadata": dict(document.metadata),
            "modified_at": document.modified_at,
            "version": document.version,
        }
    )


def write_status(status: Status) -> bytes:
    return orjson.dumps(
        {
            "state": status.state,
            "chunks": status.chunks,
            "embedded": status.embedded,
            "reused": status.reused,
            "stale": status.stale,
            "error": status.error,
            "version": status.version,
            "took_ms": status.took_ms,
            "content_type": status.content_type,
            "metadata": dict(status.metadata),
            "modified_at": status.modified_at,
        }
    )


def query_id(key: bytes | None, value: bytes | None) -> str:
    """The best id there is for an answer to this record, even where the record cannot be read."""
    try:
        body = json_object(value or b"", "queries")
    except MessageError:
        body = {}
    named = body.get("id") if isinstance(body.get("id"), str) else ""
    if key and not (named and body.get("stream")):
        return key.decode("utf-8", "replace")
    return str(named)


def stream_of(value: bytes | None) -> str | None:
    """The conversation that a record names, if it can be read so far."""
    try:
        named = json_object(value or b"", "queries").get("stream")
    except MessageError:
        return None
    return named if isinstance(named, str) and 0 < len(named) <= STREAM_CHARS_MAX else None


def read_query(key: bytes | None, value: bytes | None) -> Query:
    """A record of `queries`."""
    if value is None:
        raise MessageError("queries: the value is null; a question is an object with the field question")
    fields = Fields(json_object(value, "queries"), "queries")
    question = fields.required_text("question").strip()
    if len(question) > QUESTION_CHARS_MAX:
        raise MessageError(
            f"queries: the question has {len(question)} characters, at most {QUESTION_CHARS_MAX} - at $.question"
        )
    standing = fields.one_of("mode", "once", ("once", "standing")) == "standing"
    stream = fields.text("stream") or None
    if stream is not None and (standing or len(stream) > STREAM_CHARS_MAX):
        why = f"at most {STREAM_CHARS_MAX} characters, of a question that does not stand (mode)"
        raise fields.wrong("stream", f"the id of a conversation: {why}")
    return Query(
        id=query_id(key, value) or fields.text("id") or "",
        question=question,
        k=fields.whole("k", 0, 1, K_MAX) or None,
        filter=fields.text_or_texts("filter") or None,
        strategy=_strategy(fields),
        model=fields.text("model") or None,
        fresh_after=_positions(fields),
        return_sources=fields.flag("return_sources", True),
        tenant=fields.text("tenant") or None,
        standing=standing,
        again=standing and fields.flag("again", False),
        stream=stream,
        drafts=not standing and fields.flag("drafts", False),
    )


def _strategy(fields: Fields) -> Strategy | None:
    named = fields.one_of("strategy", "", STRATEGIES)
    return next((strategy for strategy in STRATEGIES if strategy == named), None)


def _positions(fields: Fields) -> dict[int, int]:
    positions = {}
    for partition, offset in fields.object("fresh_after").items():
        known = partition.isascii() and partition.isdigit() and type(offset) is int and offset >= 0
        if not known:
            raise fields.wrong("fresh_after", 'offsets by partition, as in {"0": 41}')
        positions[int(partition)] = offset
    return positions


def write_query(query: Query) -> bytes:
    return orjson.dumps(
        {
            "id": query.id,
            "question": query.question,
            "k": query.k,
            "filter": query.filter if isinstance(query.filter, str | None) else dict(query.filter),
            "strategy": query.strategy,
            "model": query.model,
            "fresh_after": {str(partition): offset for partition, offset in query.fresh_after.items()},
            "return_sources": query.return_sources,
            "tenant": query.tenant,
            "mode": "standing" if query.standing else "once",
            **({"again": True} if query.again else {}),
            **({"stream": query.stream} if query.stream else {}),
            **({"drafts": True} if query.drafts else {}),
        }
    )


def write_answer(answer: Answer) -> bytes:
    return orjson.dumps(
        {
            "id": answer.id,
            "question": answer.question,
            "answer": answer.answer,
            "no_answer": answer.no_answer,
            "sources": [_source(hit) for hit in answer.sources],
            "strategy": _strategy_of(answer),
            "rounds": [
                {"documents": one.documents, "tokens": _tokens(one.tokens), "refused": one.refused}
                for one in answer.asked
            ],
            "tokens": _tokens(answer.tokens),
            "cost": answer.cost,
            "model": answer.model,
            "index_position": {str(partition): offset for partition, offset in sorted(answer.index_position.items())},
            "took_ms": answer.took_ms,
            "revision": answer.revision,
            "error": answer.error,
            **({"incomplete": _missing(answer.missing_shards)} if answer.missing_shards else {}),
        }
    )


def _strategy_of(answer: Answer) -> dict[str, Any]:
    """What went otherwise than set is named only where it did."""
    went = {"rounds": answer.rounds, "documents_used": answer.documents_used}
    names = ("reranker_failure", "understood_as", "understanding_failure")
    return went | {name: value for name in names if (value := getattr(answer, name)) is not None}


def _missing(shards: Mapping[int, str]) -> dict[str, Any]:
    return {"missing_shards": sorted(shards), "reasons": {str(shard): shards[shard] for shard in sorted(shards)}}


def _tokens(tokens: Tokens) -> dict[str, int]:
    return {"prompt": tokens.prompt, "completion": tokens.completion}


def _source(hit: Hit) -> dict[str, Any]:
    return {
        "uri": hit.chunk.document,
        "chunk": hit.chunk.id,
        "text": hit.chunk.shown,
        "score": round(hit.score, 6),
        "metadata": dict(hit.chunk.place) | dict(hit.chunk.metadata),
        "position": hit.chunk.position,
    }
