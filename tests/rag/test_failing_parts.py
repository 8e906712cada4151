"""What an answer is where a part of it fails: a reranker, a model, an index that was thrown away."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from millstream.rag.adaptive import AdaptiveSettings, Evidence
from millstream.rag.document import Answer, Tokens
from millstream.rag.embedder import Embedder
from millstream.rag.errors import EmbeddingError, ModelUnavailableError
from millstream.rag.llm import LLM
from millstream.rag.messages import Query, write_answer
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentSettings
from millstream.rag.reranker import Candidates, Ranked
from millstream.rag.settings import RerankerFailure, RetrievalSettings
from millstream.rag.standing import retry_pause_ms
from millstream.topics.memory import MemoryBroker
from tests.rag.test_ask import MADE, TEXTS, World, retriever
from tests.rag.test_standing import JENA, Stage, working

# A reranker that fails


class Broken:
    """Fails so often, then turns the order round."""

    def __init__(self, error: Exception, fails: int = 1) -> None:
        self._error = error
        self._fails = fails

    def use(self, embedder: Embedder, llm: LLM) -> None:
        """Needs neither."""

    def fingerprint(self) -> str:
        return "broken"

    async def rerank(self, candidates: Candidates) -> Ranked:
        if self._fails:
            self._fails -= 1
            raise self._error
        return Ranked(list(candidates.hits)[::-1], Tokens(1, 1))

    async def close(self) -> None: ...


def world(error: Exception, how: RerankerFailure = "fall_back", **options: Any) -> World:
    made = World({"answers": {MADE: "Jena"}}, retrieval=RetrievalSettings(reranker_failure=how), **options)
    made.asking.reranker = Broken(error)
    return made


@pytest.mark.parametrize("error", [ModelUnavailableError("the ranker is away"), EmbeddingError("no vectors")])
async def test_a_reranker_that_fails_leaves_the_order_before_it_and_the_answer_says_so(error: Exception) -> None:
    answer = await world(error).ask(MADE)
    assert (answer.answer, answer.documents_used, answer.error) == ("Jena [1]", 1, None)
    assert answer.reranker_failure == str(error)
    assert str(error).encode() in write_answer(answer)


async def test_one_that_works_again_is_asked_again() -> None:
    """And then nothing is said of it: here the order is turned round, so the answer is not in the first document."""
    made = world(ModelUnavailableError("away"))
    retrieved = [await made.ask(MADE, strategy="retrieve") for _ in range(2)]
    first, second = ([hit.chunk.document for hit in answer.sources] for answer in retrieved)
    assert first == second[::-1]
    assert [answer.reranker_failure for answer in retrieved] == ["away", None]
    assert b"reranker_failure" not in write_answer(retrieved[1])


async def test_it_may_be_set_to_fail_the_question() -> None:
    with pytest.raises(ModelUnavailableError, match="away"):
        await world(ModelUnavailableError("away"), "fail").ask(MADE)


async def test_what_was_set_for_its_scores_is_not_asked_of_others() -> None:
    """With evidence that makes all hopeless no model would be asked; fitted to the reranker's scores, it says nothing of these."""
    rule = AdaptiveSettings(abstain_below=0.0, evidence=Evidence(0.0, 0.0, -9.0))
    made = world(ModelUnavailableError("away"), adaptive=rule)
    assert [(await made.ask(MADE)).answer for _ in range(2)] == ["Jena [1]", None]


async def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        await world(ZeroDivisionError()).ask(MADE)


async def test_a_failure_is_told_of_what_was_found_too() -> None:
    made = world(ModelUnavailableError("away"))
    ranked = await made.asking.found(Query("q", MADE), await retriever(TEXTS))
    told = await made.asking.told(Query("q", MADE, strategy="retrieve"), ranked, Answer("q", MADE), made.cache)
    assert (ranked.failure, told.answer.reranker_failure) == ("away", "away")


# Standing questions whose model fails

QUESTION = "Where is the lamp made?"


def settings(fails: int, **options: Any) -> DocumentSettings:
    """A model that fails so often when the first document has come."""
    llm = Part("scripted", {"answers": {QUESTION: "The lamp is made in Jena."}, "fails": fails})
    made = DocumentSettings.of("shop", embedder=Part("hashing", {"dimensions": 64}), splitter="markdown", llm=llm, k=1)
    return replace(made, answer=replace(made.answer, standing_retry_ms=1, **options))


async def put(stage: Stage) -> None:
    """The question stands, and nothing is known yet; then its document comes."""
    await stage.ask("s", QUESTION, standing=True)
    (first,) = await stage.answers("s", 1)
    assert first is not None
    assert first["no_answer"]
    await stage.put("lamp.md", "The lamp is made in Jena.")


async def said(stage: Stage, key: str, number: int) -> str | None:
    """Of its records that with this number, from 0."""
    found = (await stage.answers(key, number + 1))[number]
    assert found is not None
    assert found["error"] is None
    return str(found["answer"]) if found["answer"] else None


async def test_a_standing_question_is_tried_again_until_its_model_answers() -> None:
    async with working(MemoryBroker(), settings(fails=4)) as stage:
        await put(stage)
        assert await said(stage, "s", 1) == JENA


async def test_so_often_and_then_when_its_documents_change(caplog: pytest.LogCaptureFixture) -> None:
    """Without a retry the answer does not come by itself, however well the model is; the next change brings it."""
    async with working(MemoryBroker(), settings(fails=1, standing_retries_max=0)) as stage:
        await put(stage)
        while "given up after 0 retries" not in caplog.text:
            await asyncio.sleep(0)
        await stage.ask("other", QUESTION)
        assert await said(stage, "other", 0) == JENA
        assert len(await stage.answers("s", 1)) == 1
        await stage.put("lamp.md", "The lamp is made in Jena. It is green.")
        assert await said(stage, "s", 1) == JENA


@pytest.mark.parametrize(("failures", "pause_ms"), [(0, 100), (1, 200), (3, 800), (4, 1_000), (500, 1_000)])
def test_pauses_grow_up_to_a_limit(failures: int, pause_ms: int) -> None:
    assert retry_pause_ms(failures, 100, 1_000) == pause_ms


async def test_all_standing_questions_are_looked_at_when_the_index_was_thrown_away() -> None:
    """What was found in it is found no more."""
    broker = MemoryBroker()
    async with working(broker, settings(fails=0)) as stage:
        await put(stage)
        assert await said(stage, "s", 1) == JENA
        view = stage.pipeline.view
        assert view is not None
        view.state.clear()
        for listener in view.restarted:
            listener()
        assert await said(stage, "s", 2) is None
