"""The best chunks of a first look-up -> the same chunks in a better order. One reranker, one file in `rerankers/`.

Retrieval ranks a whole corpus with what is known beforehand; a reranker looks at the question and a few chunks together, so it
is asked for the best `rerank_chunks` only. The contract suite is `tests/contracts/test_rerankers.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .document import Hit, Tokens
from .embedder import Embedder, has_token_vectors
from .llm import LLM
from .parse_job import Part
from .parts import part_named


@dataclass(frozen=True, slots=True)
class Candidates:
    """What was found for a question, best first."""

    question: str
    hits: tuple[Hit, ...]
    sigma: float = 1.0
    """Standard deviation of the cosine between stored chunks: the unit in which cosines are added to the hits' scores."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Every hit given, once, best first, with scores that fall; and the tokens that it cost."""

    hits: list[Hit]
    tokens: Tokens = Tokens()
    failure: str | None = None
    """Why the order is still that before reranking: never from a reranker, which raises; from whoever asked one that failed."""


class Reranker(Protocol):
    """May wait (an endpoint, a model); may be asked by several tasks at once."""

    def use(self, embedder: Embedder, llm: LLM) -> None:
        """Called once, before the first question, with the pipeline's own parts, for those that work with them.

        They are the caller's: `close` leaves them open. Raises PartError when they cannot do what is needed.
        """
        ...

    def fingerprint(self) -> str:
        """Everything the order depends on, but for what `use` was given."""
        ...

    async def rerank(self, candidates: Candidates) -> Ranked:
        """The order given decides between equals. Raises ModelError (an endpoint, the LLM), EmbeddingError (the embedder)."""
        ...

    async def close(self) -> None: ...


def made_reranker(part: Part | None, embedder: Embedder, llm: LLM) -> Reranker:
    """The part named; None: `maxsim` where the embedder has token vectors, else `none`. Raises PartError."""
    usual = "maxsim" if has_token_vectors(embedder) else "none"
    chosen = part or Part(usual)
    made: Reranker = part_named("reranker", chosen.name, chosen.options)
    made.use(embedder, llm)
    return made


def ordered(hits: Sequence[Hit], scores: Sequence[float]) -> list[Hit]:
    """By these scores, the largest first, equals in the order given; each hit carries its score."""
    rows = sorted(range(len(hits)), key=lambda row: -scores[row])
    return [Hit(hits[row].chunk, float(scores[row])) for row in rows]
