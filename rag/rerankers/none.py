"""Leaves the order of retrieval as it is: s1 of `rag/retrieve.py`."""

from __future__ import annotations

from ..embedder import Embedder
from ..llm import LLM
from ..reranker import Candidates, Ranked


class NoneReranker:
    """Where every millisecond counts, or the embedder has no token vectors."""

    def use(self, embedder: Embedder, llm: LLM) -> None:
        """Needs neither."""

    def fingerprint(self) -> str:
        return "none/1"

    async def rerank(self, candidates: Candidates) -> Ranked:
        return Ranked(list(candidates.hits))

    async def close(self) -> None:
        """Nothing to let go of."""
