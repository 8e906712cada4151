"""Asks every question of a set in one configuration, as a worker would, and scores what comes.

The answer is made first and its time is taken; then the ten best chunks are looked up once more, to judge the ranking. Nothing is
cached between questions or configurations: every call of the model is made and counted.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from ...state.key_value import KeyValueState
from ..ask import Asking
from ..call_cache import CallCache
from ..document import Answer, Hit
from ..errors import RagError
from ..llm import LLM
from ..messages import Query
from ..prompt import Prompt
from ..retrieve import Retriever
from ..settings import AnswerSettings
from .cases import Case
from .corpus import Corpus
from .scores import exact_match, f1, held, ndcg, recall_at, reciprocal_rank, words

RANKED = 10
"""Chunks by which a ranking is judged."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One question's outcome. Scores are None where there is nothing to judge by."""

    case: Case
    answer: Answer
    took_ms: float
    relevant: tuple[bool, ...] | None
    """Of the ten best chunks, one of a document where documents are named."""
    exact: float | None
    f1: float | None
    right: float | None
    """By the judge where there is one, else whether an expected answer stands in it; a refusal is right where no document says."""

    def recall(self, k: int) -> float | None:
        return None if self.relevant is None else recall_at(self.relevant, k)

    @property
    def reciprocal_rank(self) -> float | None:
        return None if self.relevant is None else reciprocal_rank(self.relevant)

    @property
    def ndcg(self) -> float | None:
        return None if self.relevant is None else ndcg(self.relevant, len(self.case.documents) or 1)


async def judged(
    cases: Sequence[Case], corpus: Corpus, settings: AnswerSettings, *, judge: bool = False
) -> AsyncIterator[Judged]:
    """In the order of the cases. Raises PartError; what goes wrong with one question is that answer's `error`."""
    retrieval = replace(settings.retrieval, reranker_failure="fail")  # figures are of what was set, or there are none
    asking = Asking(replace(settings, retrieval=retrieval), corpus.embedder)
    retriever = Retriever(corpus.view, settings.retrieval)
    try:
        await asking.embedder.embed(["warm"], "query")  # loads the model before the first question's time is taken
        for case in cases:
            yield await _judged(case, asking, retriever, judge=judge)
    finally:
        await asking.close()


async def _judged(case: Case, asking: Asking, retriever: Retriever, *, judge: bool) -> Judged:
    started = time.perf_counter()
    answer = await _answer(case, asking, retriever)
    took_ms = (time.perf_counter() - started) * 1e3
    hits = (await asking.found(Query(case.id, case.question, RANKED, strategy="retrieve"), retriever)).hits
    right = await _right(case, answer, asking.llm if judge else None)
    expected, said = case.answers, answer.answer or ""
    scored = expected is not None and not case.is_unanswerable
    return Judged(
        case,
        answer,
        took_ms,
        _relevant(case, hits),
        exact_match(said, expected or ()) if scored else None,
        f1(said, expected or ()) if scored else None,
        right,
    )


async def _answer(case: Case, asking: Asking, retriever: Retriever) -> Answer:
    query, blank = Query(case.id, case.question), Answer(case.id, case.question)
    try:
        ranked = await asking.found(query, retriever)
        told = await asking.told(query, ranked, blank, CallCache(KeyValueState("completions"), 0))
    except RagError as error:
        return Answer(case.id, case.question, error=str(error))
    return told.answer


async def _right(case: Case, answer: Answer, judge: LLM | None) -> float | None:
    if case.answers is None:
        return None
    if case.is_unanswerable:
        return float(answer.no_answer)
    if answer.answer is None:
        return 0.0
    if judge is None:
        return held(answer.answer, case.answers)
    return await agreed(judge, case, answer.answer)


async def agreed(judge: LLM, case: Case, said: str) -> float:
    """Whether a model finds that what was said is what was expected. Raises ModelError."""
    completion = await judge.complete(Prompt.to_judge(case.question, " / ".join(case.answers or ()), said))
    return float(words(completion.text or "")[:1] == ["yes"])


def _relevant(case: Case, hits: Sequence[Hit]) -> tuple[bool, ...] | None:
    """Which of them are right, the further chunks of a document left out where documents are what is looked for."""
    if case.documents:
        uris = dict.fromkeys(hit.chunk.document for hit in hits)
        return tuple(uri in case.documents for uri in uris)
    if not case.answers:
        return None
    return tuple(bool(held(hit.chunk.text, case.answers)) for hit in hits)
