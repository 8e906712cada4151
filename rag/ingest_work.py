"""One version of a document, from its record to what has to be written: the part of ingestion that waits.

It reads state (what the index holds of the document, the embedding cache) and changes none; `operators/ingest.py` does, when
the outcome is handed back in the order of the rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import orjson

from .call_cache import CallCache, cache_key
from .diff import Diff, Held, detail, diff
from .document import Chunk, Document, chunk_ids, digest
from .embedder import Embedder
from .embedding_batches import EmbeddingBatches
from .endpoint_counts import CountsSince
from .errors import MessageError, ParseError
from .messages import Status, document_id, read_document
from .paid_calls import PaidCalls
from .paid_embeddings import told
from .parse_job import ParseJob, Part, Pieces
from .parse_pool import ParsePool
from .parser import parser_for
from .parts import part_class, part_named
from .refs import load_ref
from .settings import IngestSettings
from .sniff import chosen_parser
from .splitter import Splitter
from .updates import vector_bytes, write_update


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a version of a document comes to."""

    key: bytes
    held: Held | None
    """What the index will hold of it; None: nothing."""
    status: Status | None
    """None: the document is deleted."""
    records: Sequence[tuple[bytes, bytes | None]] = ()
    """Of `index-updates`."""
    vectors: Sequence[tuple[bytes, bytes]] = ()
    """New entries of the cache."""


class IngestParts:
    """What all tasks of a process share: the embedder, the parsing processes. Raises PartError for parts that cannot be.

    `paid`: where what an embedder was paid for is told.
    """

    def __init__(self, settings: IngestSettings, clock: Callable[[], float], paid: PaidCalls | None = None) -> None:
        self.settings = settings
        self.clock = clock
        self.embedder: Embedder = part_named("embedder", settings.embedder.name, settings.embedder.options)
        self.endpoint_counts = CountsSince({"embedder": self.embedder})
        self.model = self.embedder.fingerprint()  # loads it: missing weights stop the task, not each document
        self.splitter = _with_embedder(settings.splitter, settings.embedder)
        made: Splitter = part_named("splitter", self.splitter.name, self.splitter.options)
        self.splitter_print = made.fingerprint()
        self._told = told(self.embedder, paid)
        self.batches = EmbeddingBatches(self._told, "document", settings.embed_texts_max)
        self.pool = ParsePool(settings.parsing)
        self._parser_prints: dict[str, str] = {}

    async def close(self) -> None:
        await self.pool.close()
        await self._told.close()

    def parser(self, document: Document, content: bytes) -> Part:
        """Raises ParseError where the document is of no known kind, or of one that is not read."""
        kind = document.content_type.partition(";")[0].strip().lower()
        if chosen := self.settings.parsers.get(kind):
            return chosen
        if document.text is not None and not content.startswith(b"%PDF-"):
            return Part(parser_for(document.content_type, document.uri))
        return Part(chosen_parser(content, document.content_type, document.uri))

    def parser_print(self, parser: Part) -> str:
        key = repr((parser.name, sorted(parser.options.items())))
        if key not in self._parser_prints:
            self._parser_prints[key] = part_named("parser", parser.name, parser.options).fingerprint()
        return self._parser_prints[key]


def _with_embedder(splitter: Part, embedder: Part) -> Part:
    """A splitter that goes by vectors takes those of the pipeline, unless another embedder is named."""
    wanted = "embedder" in inspect.signature(part_class("splitter", splitter.name)).parameters
    if not wanted or "embedder" in splitter.options:
        return splitter
    return Part(splitter.name, {**splitter.options, "embedder": {embedder.name: dict(embedder.options)}})


async def prepare(
    key: bytes | None, value: bytes | None, held: Held | None, cache: CallCache, parts: IngestParts
) -> Prepared:
    """Raises MessageError, ParseError, EmbeddingError; then the held version stays."""
    started = parts.clock()
    name = document_id(key)
    known = key or b""
    if value is None:
        return Prepared(known, None, None, _removals(name, held.chunks if held else ()))
    document = _dated(replace(read_document(key, value), uri=name))
    content = await _content(document, parts)
    parser = parts.parser(document, content)
    content_hash = digest(content, document.content_type, parts.parser_print(parser), parts.splitter_print)
    model = parts.model
    shape = digest(_canonical(document.metadata), model, parts.settings.vector_type)
    if held is not None and (held.content, held.shape) == (content_hash, shape):
        after = replace(held, version=document.version, stale=False)
        count = len(held.chunks)
        status = Status("indexed", count, 0, count, took_ms=_since(started, parts))
        return Prepared(known, after, status.of(document))
    pieces = await parts.pool.parse(
        ParseJob(content, document.content_type, parser, parts.splitter, parts.settings.limits)
    )
    chunks = _chunks(document, pieces)
    changes = diff(held, chunks, shape)
    values, new = await _with_vectors(changes, model, cache, parts)
    return Prepared(
        known,
        Held(
            content_hash,
            shape,
            tuple(chunk.id for chunk in chunks),
            document.version,
            details=tuple(map(detail, chunks)),
        ),
        Status(
            "indexed",
            len(chunks),
            len(new),
            len(chunks) - len(new),
            took_ms=_since(started, parts),
        ).of(document),
        [*values, *_removals(name, changes.removed)],
        new,
    )


def _dated(document: Document) -> Document:
    """`modified_at` is a name of the metadata, for filters, in seconds as Pathway's are; one that is there already stays."""
    said = document.modified_s
    return document if said is None else replace(document, metadata={"modified_at": said, **document.metadata})


def failed(key: bytes | None, value: bytes | None, status: Status) -> Status:
    """With what the record says of the document, as far as it can be read."""
    try:
        return status if value is None else status.of(_dated(read_document(key, value)))
    except MessageError:
        return status


def _since(started: float, parts: IngestParts) -> int:
    return round((parts.clock() - started) * 1000)


async def _content(document: Document, parts: IngestParts) -> bytes:
    limits = parts.settings.limits
    if document.ref is not None:
        return await load_ref(document.ref, parts.settings.ref_prefixes, limits.content_bytes_max)
    if document.text is not None:
        try:
            return document.text.encode()
        except UnicodeEncodeError as error:
            raise ParseError(f"the text is no Unicode: {error}") from None
    return document.content or b""


def _canonical(metadata: object) -> bytes:
    return orjson.dumps(metadata, option=orjson.OPT_SORT_KEYS)


def _chunks(document: Document, pieces: Pieces) -> list[Chunk]:
    """The message's metadata wins over what the document says of itself."""
    metadata = dict(pieces.metadata) | dict(document.metadata)
    ids = chunk_ids(document.uri, pieces.chunks)
    parts = zip(ids, pieces.chunks, pieces.places or repeat({}), pieces.parents or repeat(""), strict=False)
    return [
        Chunk(chunk, document.uri, text, metadata, position, document.version, place, parent)
        for position, (chunk, text, place, parent) in enumerate(parts)
    ]


async def _with_vectors(
    changes: Diff, model: str, cache: CallCache, parts: IngestParts
) -> tuple[list[tuple[bytes, bytes | None]], list[tuple[bytes, bytes]]]:
    """The records of the upserts, and the cache entries of the texts that had to be embedded."""
    dtype = parts.settings.vector_type
    keys = [cache_key(f"{model} {dtype}", chunk.text) for chunk in changes.upserts]
    found = dict(zip(keys, cache.get_many(keys), strict=True))
    texts = {key: chunk.text for key, chunk in zip(keys, changes.upserts, strict=True) if found[key] is None}
    embedded = await parts.batches.embed(list(texts.values()))
    new = [(key, vector_bytes(vector, dtype)) for key, vector in zip(texts, embedded, strict=True)]
    vectors = {key: vector for key, vector in found.items() if vector is not None} | dict(new)
    records: list[tuple[bytes, bytes | None]] = [
        (chunk.key.encode(), write_update(chunk, vectors[key], model, dtype))
        for key, chunk in zip(keys, changes.upserts, strict=True)
    ]
    return records, new


def _removals(document: str, chunks: Sequence[str]) -> list[tuple[bytes, bytes | None]]:
    return [(f"{document}#{chunk}".encode(), None) for chunk in chunks]
