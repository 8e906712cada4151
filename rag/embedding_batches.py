"""Gathers the texts of several documents into one call of the embedder.

While one call is under way, texts that come in wait together for the next: no timer, and no document waits longer than the
call before it. What one embedder call fails at fails every document in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from .embedder import Embedder, Role, Vectors
from .errors import EmbeddingError


class EmbeddingBatches:
    """Belongs to one event loop. `texts_max`: texts in one call."""

    def __init__(self, embedder: Embedder, role: Role, texts_max: int) -> None:
        self._embedder = embedder
        self._role = role
        self._texts_max = texts_max
        self._waiting: list[tuple[str, asyncio.Future[Vectors]]] = []
        self._running: asyncio.Task[None] | None = None
        self.calls = 0
        """Calls of the embedder so far."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Raises EmbeddingError, whatever the embedder raised."""
        if not texts:
            return np.zeros((0, self._embedder.dimensions), np.float32)
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in texts]
        self._waiting += zip(texts, futures, strict=True)
        if self._running is None:
            self._running = loop.create_task(self._work())
        return np.stack(await asyncio.gather(*futures))

    async def _work(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # whoever is about to ask joins
                batch, self._waiting = self._waiting[: self._texts_max], self._waiting[self._texts_max :]
                await self._call([(text, future) for text, future in batch if not future.done()])
        finally:
            self._running = None

    async def _call(self, batch: list[tuple[str, asyncio.Future[Vectors]]]) -> None:
        self.calls += 1
        try:
            vectors = await self._embedder.embed([text for text, _ in batch], self._role)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is these documents' error
            failed = error if isinstance(error, EmbeddingError) else EmbeddingError(f"{type(error).__name__}: {error}")
            for _, future in batch:
                if not future.done():
                    future.set_exception(failed)
            return
        for (_, future), vector in zip(batch, vectors, strict=True):
            if not future.done():
                future.set_result(vector)
