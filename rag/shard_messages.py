"""What is asked of the shards of an index, and what they say: records of `shard-queries` and `shard-hits`, JSON.

    shard-queries   partition   the shard's                     key   who asks, which decides the partition of the reply
                    value       {"id", "ask", "question", "vector", "tenant", "filter", "without", "pool", "counts", "every",
                                 "keys", "after"}
    shard-hits      key         who asked
                    value       {"id", "shard", "part", "parts", "position", and what was asked for}

    ask     count    how many chunks there are, how long they are, how many hold each term of the question      -> "counts"
            sample   the vectors of every n-th chunk, for sigma                                                -> "vectors"
            find     the best by vector and by words, rare as `counts` say, with both scores                   -> "candidates"
            fetch    chunks by their keys, one in a part                                                       -> "chunk"

A shard that cannot answer says so: "later" (it has not come far enough: ask again) or "wrong" (asking again will not help).
Vectors are base64 of little-endian float32.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import orjson

from .document import Chunk
from .fields import Fields, json_object
from .filters import FilterText
from .index import Vector, Vectors
from .keywords import TermCounts

Ask = Literal["count", "sample", "find", "fetch"]
ASKS: Final[tuple[Ask, ...]] = ("count", "sample", "find", "fetch")
CHUNKS_MAX: Final = 10_000
"""Candidates or keys in one request."""
_REPLY_BYTES_MAX: Final = 900_000
"""Of all but a chunk, which came in a record and goes in one: brokers take a megabyte."""
Record = tuple[bytes | None, bytes | None]


@dataclass(frozen=True, slots=True, eq=False)
class ShardQuery:
    """One request to one shard."""

    ask: Ask
    id: str = ""
    question: str = ""
    vector: Vector | None = None
    tenant: str | None = None
    filter: FilterText | None = None
    without: frozenset[str] = frozenset()
    pool: int = 0
    """Candidates by vector, and as many by words."""
    counts: TermCounts = TermCounts()
    """Of all shards together."""
    every: int = 1
    """Of a sample: every n-th chunk."""
    keys: tuple[str, ...] = ()
    after: int | None = None
    """Offset of `index-updates` that the shard must have passed."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that a shard proposes."""

    key: str
    cosine: float
    words: float
    near: bool
    """Among the shard's best by vector."""
    worded: bool
    """Among its best by words."""


@dataclass(frozen=True, slots=True, eq=False)
class ShardReply:
    """What one shard says to one request, all its parts together."""

    shard: int
    position: int = 0
    """Next offset of `index-updates`, when it was looked."""
    counts: TermCounts = TermCounts()
    held: int = 0
    """Chunks of the shard, whosever."""
    vectors: Vectors | None = None
    candidates: tuple[Candidate, ...] = ()
    undecided: str = ""
    """The filter could be evaluated on no chunk of the shard: why."""
    chunks: tuple[Chunk, ...] = ()
    later: str = ""
    wrong: str = ""


def write_request(request: ShardQuery) -> bytes:
    wanted = request.filter
    return orjson.dumps(
        {
            "id": request.id,
            "ask": request.ask,
            "question": request.question,
            "vector": None if request.vector is None else _packed(request.vector),
            "tenant": request.tenant,
            "filter": wanted if wanted is None or isinstance(wanted, str) else dict(wanted),
            "without": sorted(request.without),
            "pool": request.pool,
            "counts": _counts(request.counts),
            "every": request.every,
            "keys": list(request.keys),
            "after": request.after,
        }
    )


def read_request(value: bytes | None) -> ShardQuery:
    """Raises MessageError naming the field."""
    fields = Fields(json_object(value or b"null", "shard-queries"), "shard-queries")
    ask = fields.one_of("ask", "", ASKS)
    return ShardQuery(
        next((known for known in ASKS if known == ask), "count"),
        fields.required_text("id"),
        fields.text("question") or "",
        None if fields.text("vector") is None else _unpacked(fields, "vector"),
        fields.text("tenant") or None,
        fields.text_or_texts("filter") or None,
        frozenset(_texts(fields, "without")),
        fields.whole("pool", 0, 0, CHUNKS_MAX),
        _read_counts(fields),
        fields.whole("every", 1, 1, 1 << 31),
        tuple(_texts(fields, "keys")),
        None if (after := fields.whole("after", -1, 0, 1 << 62)) < 0 else after,
    )


def write_reply(asker: bytes | None, request_id: str, reply: ShardReply) -> list[Record]:
    """Records; a chunk has one of its own, since it may be as large as a record can be."""
    common = {"id": request_id, "shard": reply.shard, "position": reply.position}
    if reply.later or reply.wrong:
        return [_part(asker, common, 0, 1, {"later": reply.later, "wrong": reply.wrong})]
    if reply.chunks:
        parts = len(reply.chunks)
        return [_part(asker, common, at, parts, {"chunk": _chunk(one)}) for at, one in enumerate(reply.chunks)]
    whole = _part(asker, common, 0, 1, _said(reply))
    if len(whole[1] or b"") > _REPLY_BYTES_MAX:
        said = f"{len(reply.candidates)} candidates take {len(whole[1] or b'')} bytes; ask for fewer (pool_chunks, k)"
        return [_part(asker, common, 0, 1, {"wrong": said})]
    return [whole]


def _said(reply: ShardReply) -> dict[str, Any]:
    vectors = reply.vectors
    return {
        "counts": _counts(reply.counts),
        "held": reply.held,
        "undecided": reply.undecided,
        "candidates": [[one.key, one.cosine, one.words, one.near, one.worded] for one in reply.candidates],
        **({} if vectors is None else {"vectors": _packed(vectors), "dimensions": vectors.shape[1]}),
    }


def _part(asker: bytes | None, common: Mapping[str, Any], part: int, parts: int, said: Mapping[str, Any]) -> Record:
    return asker, orjson.dumps({**common, "part": part, "parts": parts, **said})


@dataclass(slots=True)
class Parts:
    """Of one reply, as they come in; twice does no harm."""

    there: dict[int, ShardReply]

    def add(self, fields: Fields) -> ShardReply | None:
        """The whole, once all are there. Raises MessageError."""
        parts = fields.whole("parts", 1, 1, CHUNKS_MAX)
        self.there[fields.whole("part", 0, 0, parts - 1)] = _read_part(fields)
        if len(self.there) < parts:
            return None
        whole = [self.there[part] for part in sorted(self.there)]
        if parts == 1:
            return whole[0]
        return ShardReply(whole[0].shard, whole[0].position, chunks=tuple(one for part in whole for one in part.chunks))


def reply_fields(value: bytes | None) -> tuple[str, Fields]:
    """The request's id, and the rest, which `Parts` reads. Raises MessageError."""
    fields = Fields(json_object(value or b"null", "shard-hits"), "shard-hits")
    return fields.required_text("id"), fields


def _read_part(fields: Fields) -> ShardReply:
    chunk = fields.object("chunk")
    return ShardReply(
        fields.whole("shard", 0, 0, 1 << 31),
        fields.whole("position", 0, 0, 1 << 62),
        _read_counts(fields),
        fields.whole("held", 0, 0, 1 << 62),
        _vectors(fields),
        tuple(_candidate(fields, one) for one in fields.array("candidates")),
        fields.text("undecided") or "",
        (_read_chunk(chunk),) if chunk else (),
        fields.text("later") or "",
        fields.text("wrong") or "",
    )


def _candidate(fields: Fields, given: Any) -> Candidate:
    try:
        key, cosine, words, near, worded = given
        return Candidate(str(key), float(cosine), float(words), bool(near), bool(worded))
    except (TypeError, ValueError):
        raise fields.wrong("candidates", "[key, cosine, words, near, worded] each") from None


def _counts(counts: TermCounts) -> dict[str, Any]:
    return {"chunks": counts.chunks, "length": counts.length, "holding": dict(counts.holding)}


def _read_counts(fields: Fields) -> TermCounts:
    given = fields.object("counts")
    numbers = Fields({"chunks": 0, "length": 0} | given, "counts")
    holding = {term: count for term, count in numbers.object("holding").items() if type(count) is int and count >= 0}
    return TermCounts(numbers.whole("chunks", 0, 0, 1 << 62), numbers.whole("length", 0, 0, 1 << 62), holding)


def _texts(fields: Fields, name: str) -> list[str]:
    given = fields.array(name)
    if len(given) > CHUNKS_MAX or not all(isinstance(one, str) for one in given):
        raise fields.wrong(name, f"at most {CHUNKS_MAX} strings")
    return given


def _packed(vectors: Vectors) -> str:
    return b64encode(vectors.astype("<f4").tobytes()).decode()


def _unpacked(fields: Fields, name: str) -> Vector:
    try:
        vector = np.frombuffer(b64decode(fields.text(name) or "", validate=True), "<f4").astype(np.float32)
    except (binascii.Error, ValueError):
        raise fields.wrong(name, "base64 of little-endian float32") from None
    if not np.isfinite(vector).all():
        raise fields.wrong(name, "finite numbers")
    return vector


def _vectors(fields: Fields) -> Vectors | None:
    if fields.text("vectors") is None:
        return None
    flat, dimensions = _unpacked(fields, "vectors"), fields.whole("dimensions", 1, 1, 1 << 20)
    if len(flat) % dimensions:
        raise fields.wrong("dimensions", f"a divisor of {len(flat)}")
    return flat.reshape(-1, dimensions)


def _chunk(chunk: Chunk) -> dict[str, Any]:
    return {
        "document": chunk.document,
        "id": chunk.id,
        "text": chunk.text,
        "metadata": dict(chunk.metadata),
        "position": chunk.position,
        "version": chunk.version,
        "place": dict(chunk.place),
        "parent": chunk.parent or None,
    }


def _read_chunk(given: Mapping[str, Any]) -> Chunk:
    fields = Fields(given, "shard-hits: chunk")
    return Chunk(
        fields.required_text("id"),
        fields.required_text("document"),
        fields.text("text") or "",
        fields.object("metadata"),
        fields.whole("position", 0, 0, 1 << 31),
        fields.text_or_whole("version"),
        fields.object("place"),
        fields.text("parent") or "",
    )


def keys_of(chunks: Sequence[Chunk]) -> dict[str, Chunk]:
    return {chunk.key: chunk for chunk in chunks}
