"""What the adapters of embedding endpoints are alike in: texts cut and sent in calls of a limited size, replies checked.

The number of dimensions is said beforehand, since an index is made before the first vector comes; an endpoint that gives vectors of
another length is an error that tells both. Empty texts are sent as a space: endpoints refuse them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .embedder import Role, Vectors, unit
from .endpoint_gate import EndpointCounts
from .errors import EmbeddingError, RagError
from .http_json import JsonEndpoint


class EndpointEmbedder:
    """Subclasses say what is sent (`request`) and where the rows stand in the reply (`rows`)."""

    def __init__(self, endpoint: JsonEndpoint, dimensions: int, texts_max: int, text_chars_max: int) -> None:
        if dimensions < 1 or texts_max < 1 or text_chars_max < 1:
            raise ValueError("dimensions, texts_max and text_chars_max must be at least 1")
        self._endpoint = endpoint
        self._dimensions = dimensions
        self._texts_max = texts_max
        self._chars_max = text_chars_max

    @property
    def counts(self) -> EndpointCounts:
        return self._endpoint.counts

    @property
    def dimensions(self) -> int:
        return self._dimensions

    def request(self, texts: list[str], role: Role) -> dict[str, Any]:
        raise NotImplementedError

    def rows(self, reply: Any) -> list[Any]:
        """In the order of the texts. May raise KeyError, IndexError, TypeError for a reply of another shape."""
        raise NotImplementedError

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Raises EmbeddingError."""
        parts = [np.zeros((0, self._dimensions), np.float32)]
        for start in range(0, len(texts), self._texts_max):
            some = [text[: self._chars_max].strip() or " " for text in texts[start : start + self._texts_max]]
            parts.append(await self._call(some, role))
        return np.concatenate(parts)

    async def _call(self, texts: list[str], role: Role) -> Vectors:
        try:
            reply = await self._endpoint.post(self.request(texts, role))
        except RagError as error:
            raise EmbeddingError(str(error)) from error
        try:
            vectors = np.array(self.rows(reply), np.float64)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise EmbeddingError(f"the reply of {self._endpoint.url} holds no vectors: {str(reply)[:200]}") from None
        if vectors.shape != (len(texts), self._dimensions):
            raise EmbeddingError(
                f"{self._endpoint.url} gave vectors of shape {vectors.shape} for {len(texts)} texts; "
                f"dimensions says {self._dimensions}"
            )
        if not np.isfinite(vectors).all():
            raise EmbeddingError(f"{self._endpoint.url} gave a vector with numbers that are not finite")
        largest = np.abs(vectors).max(axis=1, keepdims=True, initial=1.0)  # else a square might leave 32 bits
        return unit((vectors / largest).astype(np.float32))

    async def close(self) -> None:
        await self._endpoint.close()
