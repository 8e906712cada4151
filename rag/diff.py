"""What changed between what `index-updates` holds of a document and its new version. Pure.

`Held` is kept in state, one entry a document: the ids of its chunks and two hashes. `content` covers everything the chunks
depend on (bytes, type, parser, splitter); `shape` everything else that stands in every record (metadata, embedder, vector
type). Same content and shape: nothing to do. Other shape: every record is written again, vectors come from the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from .document import Chunk


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

    def to_bytes(self) -> bytes:
        return orjson.dumps([self.content, self.shape, self.chunks, self.version, self.stale])

    @classmethod
    def from_bytes(cls, data: bytes) -> Held:
        content, shape, chunks, version, stale = orjson.loads(data)
        return cls(content, shape, tuple(chunks), version, stale)


@dataclass(frozen=True, slots=True)
class Diff:
    """What has to be written."""

    upserts: tuple[Chunk, ...]
    removed: tuple[str, ...]
    """Chunk ids."""


def diff(held: Held | None, chunks: Sequence[Chunk], shape: str) -> Diff:
    """Upserts in the order of the new text, removals in the order of the old."""
    before = set(held.chunks) if held is not None else set()
    same_shape = held is not None and held.shape == shape
    after = {chunk.id for chunk in chunks}
    upserts = tuple(chunk for chunk in chunks if not same_shape or chunk.id not in before)
    removed = tuple(chunk for chunk in (held.chunks if held is not None else ()) if chunk not in after)
    return Diff(upserts, removed)
