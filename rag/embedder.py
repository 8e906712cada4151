"""Texts -> vectors of length one. One embedder, one file in `embedders/`.

Vectors of two embedders, or of two settings of one, are not comparable: `fingerprint` says which are, and travels with every
vector. The contract suite is `tests/contracts/test_embedders.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

Role = Literal["document", "query"]
"""Some models want to know which side of a search a text is on."""

Vectors = NDArray[np.float32]
"""One row a text, `dimensions` columns, each row of L2 length one."""


class Embedder(Protocol):
    """May wait (an endpoint) or work in a thread (a model in this process); may be asked by several tasks at once.

    One that costs nothing says `is_free = True`; what others gave is told to the other workers (`paid_embeddings.py`).
    """

    @property
    def dimensions(self) -> int: ...

    def fingerprint(self) -> str:
        """Model and everything else that the vectors depend on."""
        ...

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Raises EmbeddingError. A text's vector does not depend on the texts beside it (but for the last bits)."""
        ...

    async def close(self) -> None: ...


class TokenEmbedder(Embedder, Protocol):
    """An embedder that can also say what each token of a text means in its place: what late interaction compares."""

    async def token_vectors(self, texts: Sequence[str], role: Role) -> list[Vectors]:
        """For each text one unit row a token, without the marks of beginning and end; a text without tokens has no rows.

        Raises EmbeddingError.
        """
        ...


def has_token_vectors(embedder: Embedder) -> TypeGuard[TokenEmbedder]:
    return callable(getattr(embedder, "token_vectors", None))


def unit(vectors: Vectors) -> Vectors:
    """Each row scaled to length one; a row of zeros becomes the first axis, so that every text has a direction."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    fixed = np.where(lengths == 0, np.eye(1, vectors.shape[1], dtype=np.float32), vectors)
    return (fixed / np.where(lengths == 0, 1, lengths)).astype(np.float32)
