"""An embedder that costs something, asked once for a text: what it gave is told to the other workers before anything depends on it.

As `paid_calls.py` does it for models that answer, in a topic of its own (`<app>.paid-embeddings`): vectors are many and large, and
would push out what models said. The cache of a step is committed with what was made of it, so a worker that is killed has paid for
every document it was at work on; whoever takes the shard over finds the vectors there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from .call_cache import cache_key
from .embedder import Embedder, Role, Vectors
from .paid_calls import PaidCall, PaidCalls


def told(embedder: Embedder, paid: PaidCalls | None) -> Embedder:
    """The embedder itself where it says that it `is_free`, or where nobody is told."""
    return embedder if paid is None or getattr(embedder, "is_free", False) else ToldEmbedder(embedder, paid)


class ToldEmbedder:
    """The embedder behind what was told of it: read from the first text on, until `close`, which closes the embedder too."""

    def __init__(self, embedder: Embedder, paid: PaidCalls) -> None:
        self._embedder = embedder
        self._paid = paid
        self._following: asyncio.Task[None] | None = None

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    def fingerprint(self) -> str:
        return self._embedder.fingerprint()

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Only texts of which nobody has told are embedded, each once."""
        if self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._paid.run())
        model = f"{self.fingerprint()} {role}"
        keys = [cache_key(model, text) for text in texts]
        found = {key: self._vector(await self._paid.find(key)) for key in dict.fromkeys(keys)}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if found[key] is None}
        if missing:
            made = dict(zip(missing, await self._embedder.embed(list(missing.values()), role), strict=True))
            await self._paid.tell_all({key: PaidCall("", vector.tobytes()) for key, vector in made.items()})
            found |= made
        vectors = [vector for key in keys if (vector := found[key]) is not None]
        return np.stack(vectors) if vectors else np.zeros((0, self.dimensions), np.float32)

    def _vector(self, call: PaidCall | None) -> Vectors | None:
        """None, too, for what is no vector of this embedder: anybody may write to a topic."""
        if call is None or len(call.result) != 4 * self.dimensions:
            return None
        vector = np.frombuffer(call.result, np.float32)
        return vector if np.isfinite(vector).all() else None

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        await self._embedder.close()
