"""Late interaction: each token of the question looks for the nearest token of the chunk (Khattab and Zaharia, "ColBERT", 2020).

    s2 = s1 + maxsim / sigma          maxsim = mean over the question's tokens of the largest cosine with a token of the chunk

With the sentence encoder's own token vectors, which were never trained for it, and sigma as in `retrieve.py`. R@1 on XQuAD / an
FAQ set: s1 .947 / .553, s2 .962 / .567. A chunk's token vectors are made when it is first among the candidates and kept as
float16 by the hash of its text: 768 bytes a token, some 120 kB a chunk of 800 characters. They are not stored with the index,
where they would take 200 times the room of the chunk's one vector.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..document import digest
from ..embedder import Embedder, TokenEmbedder, Vectors, has_token_vectors
from ..errors import PartError
from ..llm import LLM
from ..reranker import Candidates, Ranked, ordered

_Kept = NDArray[np.float16]


class Maxsim:
    """`weight`: of maxsim beside s1. `cache_bytes_max`, `cache_entries_max`: token vectors kept, the least recently used go first."""

    def __init__(self, weight: float = 1.0, cache_bytes_max: int = 256 << 20, cache_entries_max: int = 20_000) -> None:
        if weight <= 0 or cache_bytes_max < 0 or cache_entries_max < 0:
            raise ValueError("weight must be above 0, cache_bytes_max and cache_entries_max not negative")
        self._weight = weight
        self._kept = TokenCache(cache_bytes_max, cache_entries_max)
        self._embedder: TokenEmbedder | None = None

    def use(self, embedder: Embedder, llm: LLM) -> None:
        if not has_token_vectors(embedder):
            raise PartError(
                f"reranker 'maxsim': the embedder {type(embedder).__name__.lower()!r} has no token vectors; "
                "take the embedder 'local', or the reranker 'none'"
            )
        self._embedder = embedder

    def fingerprint(self) -> str:
        return f"maxsim/1 {self._weight}"

    async def rerank(self, candidates: Candidates) -> Ranked:
        if not candidates.hits:
            return Ranked([])
        asked, chunks = await self._vectors(candidates)
        found = maxsims(asked, chunks)
        scores = [
            hit.score + self._weight * float(similar) / candidates.sigma
            for hit, similar in zip(candidates.hits, found, strict=True)
        ]
        return Ranked(ordered(candidates.hits, scores))

    async def close(self) -> None:
        self._kept.clear()

    async def _vectors(self, candidates: Candidates) -> tuple[Vectors, list[_Kept]]:
        """Of the question, and of each hit; only what is not kept is embedded."""
        assert self._embedder is not None, "use(embedder, llm) comes before the first question"
        (asked,) = await self._embedder.token_vectors([candidates.question], "query")
        texts = {digest(hit.chunk.text): hit.chunk.text for hit in candidates.hits}
        there = {key: kept for key in texts if (kept := self._kept.get(key)) is not None}
        missing = [key for key in texts if key not in there]
        made = await self._embedder.token_vectors([texts[key] for key in missing], "document") if missing else []
        for key, vectors in zip(missing, made, strict=True):
            there[key] = vectors.astype(np.float16)
            self._kept.put(key, there[key])
        return asked, [there[digest(hit.chunk.text)] for hit in candidates.hits]


def maxsims(question: Vectors, chunks: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """One number a chunk, from -1 to 1; 0 where either side has no tokens."""
    found = np.zeros(len(chunks), np.float32)
    filled = [row for row, vectors in enumerate(chunks) if len(vectors)]
    if not len(question) or not filled:
        return found
    lengths = [len(chunks[row]) for row in filled]
    tokens = np.concatenate([chunks[row] for row in filled]).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    found[filled] = np.maximum.reduceat(question @ tokens.T, starts, axis=1).mean(axis=0)
    return found


class TokenCache:
    """Token vectors by the hash of their text. An entry larger than the whole limit is not kept."""

    def __init__(self, bytes_max: int, entries_max: int) -> None:
        self._bytes_max = bytes_max
        self._entries_max = entries_max
        self._entries: OrderedDict[str, _Kept] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> _Kept | None:
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: str, vectors: _Kept) -> None:
        if vectors.nbytes > self._bytes_max or key in self._entries:
            return
        self._entries[key] = vectors
        self.size_bytes += vectors.nbytes
        while self.size_bytes > self._bytes_max or len(self._entries) > self._entries_max:
            self.size_bytes -= self._entries.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        self._entries.clear()
        self.size_bytes = 0
