"""One question over one index: look up, rerank, ask the model, as often as the strategy says. What waits, without topics or views.

    question -> vector -> retrieve (s1) -> rerank (s2) -> [ next_step -> prompt -> model ]* -> answer

Decisions are in `retrieve.py` and `adaptive.py`. A worker answers with it (`answer_work.py`), and `millstream evaluate` measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from .adaptive import AdaptiveSettings, Ask, Round, log_odds, next_step
from .call_cache import CallCache
from .completions import Completions, told_model
from .document import Answer, Asked, Hit, Tokens
from .embedder import Embedder
from .errors import EmbeddingError, ModelError
from .filters import filter_of
from .index import Vector
from .llm import LLM, Completion, Said
from .messages import Query, Strategy
from .paid_calls import PaidCalls, PaidElsewhere
from .paid_embeddings import told
from .parts import part_named
from .prompt import Prompt
from .ranking import Ranking
from .reranker import Candidates, Ranked, Reranker, made_reranker
from .retrieve import Wanted
from .settings import AnswerSettings
from .understand import Understanding

Entries = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, and what the cache of calls is to keep."""

    answer: Answer
    entries: Entries = ()
    shown: str = ""
    """Signature of the hits, of a standing question."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Hits by s1, the question's vector, and how many there could have been."""

    hits: list[Hit]
    vector: Vector
    wanted: int


class Seeks(Protocol):
    """Finds the chunks: in this process (`retrieve.py`), or in shards (`sharded_index.py`)."""

    @property
    def ranking(self) -> Ranking: ...

    async def look_up(self, wanted: Wanted) -> list[Hit]: ...

    def sigma(self, tenant: str | None = None) -> float:
        """Of the cosine, as of the last look-up."""
        ...


class Asking:
    """The parts that answer, made from settings; an embedder that is given stays the giver's. Raises PartError."""

    def __init__(
        self,
        settings: AnswerSettings,
        embedder: Embedder | None = None,
        paid: PaidElsewhere | None = None,
        paid_embeddings: PaidCalls | None = None,
    ) -> None:
        self.settings = settings
        self.embedder: Embedder = embedder or part_named("embedder", settings.embedder.name, settings.embedder.options)
        self._questions = told(self.embedder, paid_embeddings)
        self.llm: LLM = part_named("llm", settings.llm.name, settings.llm.options)
        self.reranker: Reranker = made_reranker(settings.retrieval.reranker, self.embedder, told_model(self.llm, paid))
        self._closes_embedder = embedder is None
        self.completions = Completions(self.llm, self.reranker.fingerprint(), paid)
        rewriter = settings.rewriter
        made = None if rewriter is None else part_named("rewriter", rewriter.name, rewriter.options)
        self.understanding = Understanding(self.completions, made, settings.retrieval.language)

    async def close(self) -> None:
        await self.reranker.close()
        await self.llm.close()
        if self._closes_embedder:
            await self._questions.close()

    def strategy(self, query: Query) -> Strategy:
        """`adaptive` lives on refusals: without them it is `fixed`."""
        wanted = query.strategy or self.settings.strategy
        return "fixed" if wanted == "adaptive" and not getattr(self.llm, "can_refuse", True) else wanted

    async def found(self, query: Query, retriever: Seeks, without: frozenset[str] = frozenset()) -> Ranked:
        """The hits that this query may be answered from, best first. Raises FilterError, EmbeddingError, ModelError.

        `without`: as if these documents were not in the index (`millstream evaluate --calibrate`).
        """
        return await self.ranked(query, await self.looked_up(query, retriever, without), retriever)

    async def looked_up(self, query: Query, retriever: Seeks, without: frozenset[str] = frozenset()) -> Found:
        """Before reranking. Of several texts that are looked up (`Query.searched`) a chunk counts by the best of its scores."""
        wanted_filter = None if query.filter is None else filter_of(query.filter)
        texts = query.searched or (query.question,)
        if retriever.ranking.uses_vectors:
            vectors = await self._questions.embed(list(texts), "query")
        else:
            vectors = np.zeros((len(texts), self.embedder.dimensions), np.float32)
        wanted = max(self._wanted(query), self.settings.retrieval.rerank_chunks)
        found: list[list[Hit]] = []
        for text, vector in zip(texts, vectors, strict=True):
            looked_for = Wanted(text, vector, wanted, wanted_filter, query.tenant, without)
            found.append(await retriever.look_up(looked_for))
        return Found(fused(found, wanted), vectors[0], wanted)

    async def ranked(self, query: Query, found: Found, retriever: Seeks) -> Ranked:
        asked = query.searched[0] if query.searched else query.question
        ranked = await self._reranked(Candidates(asked, tuple(found.hits), retriever.sigma(query.tenant)))
        hits = ranked.hits if self.strategy(query) == "retrieve" else distinct(ranked.hits)
        return replace(ranked, hits=hits[: self._wanted(query)])

    async def _reranked(self, candidates: Candidates) -> Ranked:
        """In the order before it where the reranker fails."""
        try:
            return await self.reranker.rerank(candidates)
        except (ModelError, EmbeddingError) as error:
            if self.settings.retrieval.reranker_failure == "fail":
                raise
            return Ranked(list(candidates.hits), failure=str(error))

    def _wanted(self, query: Query) -> int:
        """At least two under `adaptive`: how far the second is behind says something of the first."""
        if self.strategy(query) == "adaptive":
            return max(2, query.k or self.settings.adaptive.documents_max)
        return query.k or self.settings.retrieval.k

    def _rule(self, query: Query) -> AdaptiveSettings:
        adaptive = self.settings.adaptive
        if self.strategy(query) == "fixed":
            return adaptive.fixed(query.k or self.settings.retrieval.k)
        return adaptive.up_to(query.k or adaptive.documents_max)

    async def told(
        self, query: Query, ranked: Ranked, blank: Answer, cache: CallCache, said: Said | None = None
    ) -> Told:
        """`blank` with what came of it. Raises ModelError.

        `said` hears the answer while it is made, but for the posterior rule, where an answer may yet be refused: then in the end.
        """
        hits, rule = ranked.hits, self._rule(query)
        blank = replace(blank, reranker_failure=ranked.failure)
        if ranked.failure is not None:
            rule = rule.without_scores()  # what evidence was fitted to are the reranker's
        if self.strategy(query) == "retrieve":
            shown = replace(blank, sources=tuple(hits), no_answer=not hits, documents_used=len(hits))
            return Told(self._paid(shown, ranked.tokens))
        scores = [hit.score for hit in hits]
        rounds: list[Round] = []
        entries: list[tuple[bytes, bytes]] = []
        completion = Completion(None)
        at_once = bool(getattr(self.llm, "tells_forbidden_odds", False))
        while isinstance(step := next_step(rule, scores, rounds, at_once=at_once), Ask):
            prompt = self._prompt(query, hits[: step.documents], step, odds=rule.posterior)
            hears = None if rule.posterior else said
            paid = await self.completions.complete(prompt, query.model, cache, hears, query.id)
            completion = paid.completion
            rounds.append(self._round(step, completion))
            entries += [] if paid.entry is None else [paid.entry]
        answer = _with_rounds(blank, completion, hits, rounds, refused=step.refused)
        if said is not None and rule.posterior and answer.answer:
            said(answer.answer)
        answer = answer if query.return_sources else replace(answer, sources=())
        return Told(self._paid(answer, ranked.tokens), tuple(entries))

    def _prompt(self, query: Query, hits: Sequence[Hit], step: Ask, *, odds: bool) -> Prompt:
        prompt = Prompt.of(query.question, hits, no_answer=self.settings.no_answer)
        return replace(prompt, odds=odds, forbid_no=step.forbid_no)

    def _round(self, step: Ask, completion: Completion) -> Round:
        return Round(
            step.documents,
            completion.text is None,
            step.forbid_no,
            log_odds(completion.first_token, self.settings.no_answer),
            bool(getattr(self.llm, "can_forbid", False)),
            completion.tokens,
        )

    def _paid(self, answer: Answer, reranking: Tokens) -> Answer:
        tokens = sum((one.tokens for one in answer.asked), reranking)
        price = self.settings.price
        return replace(answer, tokens=tokens, cost=None if price is None else price.of(tokens))


def fused(found: Sequence[Sequence[Hit]], wanted: int) -> list[Hit]:
    """Of several rankings in one unit: each chunk once, by its best score, best first; equals in the order given."""
    best: dict[str, Hit] = {}
    for hit in (hit for hits in found for hit in hits):
        if hit.chunk.key not in best or hit.score > best[hit.chunk.key].score:
            best[hit.chunk.key] = hit
    return sorted(best.values(), key=lambda hit: -hit.score)[:wanted]


def distinct(hits: Sequence[Hit]) -> list[Hit]:
    """Without those that would show the model what a better one shows: copies, and chunks of one parent."""
    return list({hit.chunk.shown: hit for hit in reversed(hits)}.values())[::-1]


def _with_rounds(
    blank: Answer, completion: Completion, hits: Sequence[Hit], rounds: Sequence[Round], *, refused: bool
) -> Answer:
    """Sources: every chunk the model was shown last, since [2] in the answer is the second of them."""
    shown = rounds[-1].documents if rounds else 0
    return replace(
        blank,
        answer=None if refused else completion.text,
        no_answer=refused,
        sources=tuple(hits[:shown]),
        documents_used=shown,
        asked=tuple(Asked(one.documents, one.tokens, one.refused) for one in rounds),
        model=completion.model,
    )
