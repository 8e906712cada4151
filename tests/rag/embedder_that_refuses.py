"""An embedder that refuses a text, as an endpoint does one that is too long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from millstream.rag.embedder import Role
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.errors import EmbeddingError


class EmbedderThatRefuses(Hashing):
    async def embed(self, texts: Sequence[str], role: Role) -> np.ndarray:
        if "REFUSED" in texts:
            raise EmbeddingError("refused")
        return await super().embed(texts, role)
