"""What changed between what `index-updates` holds of a document and its new version. Pure.

`Held` is kept in state, one entry a document: the ids of its chunks and two hashes. `content` covers everything the chunks
depend on (bytes, type, parser, splitter); `shape` everything else that stands in every record (metadata, embedder, vector
type). Same content and shape: nothing to do. Other shape: every record is written again, vectors come from the cache. A chunk
that is the same and now stands on another page, or under another heading, has its record written again too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

import orjson

from .document import Chunk, digest

_DETAIL_HEX: Final = 8


@dataclass(frozen=True, slots=True)
class Held:
    """What the index has of one document."""

    content: str
    shape: str
    chunks: tuple[str, ...]
    """Their ids, in the order of the text."""
    version: str | int | None = None
    stale: bool = False
    """A newer version came and could not be parsed."""
    details: tuple[str, ...] = ()
    """Of each chunk a short hash of what else its record says: place, parent, what the document says of itself."""

    def to_bytes(self) -> bytes:
        return orjson.dumps([self.content, self.shape, self.chunks, self.version, self.stale, "".join(self.details)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Held:
        content, shape, chunks, version, stale, *rest = orjson.loads(data)  # older ones have no details
        joined = rest[0] if rest else ""
        details = tuple(joined[start : start + _DETAIL_HEX] for start in range(0, len(joined), _DETAIL_HEX))
        return cls(content, shape, tuple(chunks), version, stale, details)


@dataclass(frozen=True, slots=True)
class Diff:
    """What has to be written."""

    upserts: tuple[Chunk, ...]
    removed: tuple[str, ...]
    """Chunk ids."""


def detail(chunk: Chunk) -> str:
    """A record with another one is written again; its vector is not made again."""
    said = orjson.dumps([chunk.metadata, chunk.place], option=orjson.OPT_SORT_KEYS)
    return digest(said, chunk.parent, hex_digits=_DETAIL_HEX)


def diff(held: Held | None, chunks: Sequence[Chunk], shape: str) -> Diff:
    """Upserts in the order of the new text, removals in the order of the old."""
    same_shape = held is not None and held.shape == shape
    before = dict(zip(held.chunks, held.details or repeat(""), strict=False)) if held is not None else {}
    after = {chunk.id for chunk in chunks}
    upserts = tuple(chunk for chunk in chunks if not same_shape or before.get(chunk.id) != detail(chunk))
    removed = tuple(chunk for chunk in (held.chunks if held is not None else ()) if chunk not in after)
    return Diff(upserts, removed)
