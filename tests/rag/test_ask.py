"""One question over one index: how often the model is asked, with what, and what the answer says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from millstream.rag.adaptive import AdaptiveSettings, Evidence
from millstream.rag.ask import Asking, Told
from millstream.rag.call_cache import CallCache
from millstream.rag.document import Answer, Chunk, Price, Tokens, chunk_ids
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.errors import ModelUnavailableError
from millstream.rag.llm import Said
from millstream.rag.llms.scripted import Scripted
from millstream.rag.messages import Query
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentSettings
from millstream.rag.retrieve import Retriever
from millstream.rag.settings import AnswerSettings, RetrievalSettings
from millstream.rag.updates import vector_bytes, write_update
from millstream.rag.view_state import ViewPlan, ViewState
from millstream.state.key_value import KeyValueState
from millstream.state.stores.memory import MemoryDatabase

TEXTS = {
    "a": "The lamp is made in Jena.",
    "b": "The lamp is green and made of glass.",
    "c": "The lamp is sold by Ada.",
    "d": "Trains leave at noon.",
}
MADE = "Where is the lamp made in?"
SOLD = "What is the lamp made in, and sold by?"
"""Of which "c" has the answer, second or third by score."""


async def retriever(texts: Mapping[str, str] = TEXTS) -> Retriever:
    embedder = Hashing()
    vectors = await embedder.embed(list(texts.values()), "document")
    view = ViewState(ViewPlan("t", "", embedder.fingerprint(), embedder.dimensions), MemoryDatabase())
    records = []
    for (uri, text), vector in zip(texts.items(), vectors, strict=True):
        chunk = Chunk(chunk_ids(uri, [text])[0], uri, text, {"from": uri})
        records.append(
            (chunk.key.encode(), write_update(chunk, vector_bytes(vector, "f32"), embedder.fingerprint(), "f32"))
        )
    view.apply(0, len(records), records)
    return Retriever(view, RetrievalSettings())


class World:
    """One pipeline's parts with a scripted model, and a cache that keeps what it is given."""

    def __init__(self, script: dict[str, Any], **options: Any) -> None:
        chosen: dict[str, Any] = {"embedder": Part("hashing"), "llm": Part("scripted", script), "strategy": "adaptive"}
        self.asking = Asking(AnswerSettings(**(chosen | options)))
        assert isinstance(self.asking.llm, Scripted)
        self.model = self.asking.llm
        self.cache = CallCache(KeyValueState("completions"), 100)

    async def ask(self, question: str, *, said: Said | None = None, **options: Any) -> Answer:
        told = await self.told(Query("q", question, **options), said)
        for entry in told.entries:
            self.cache.put(*entry)
        return told.answer

    async def told(self, query: Query, said: Said | None = None) -> Told:
        ranked = await self.asking.found(query, await retriever())
        return await self.asking.told(query, ranked, Answer(query.id, query.question), self.cache, said)


async def test_one_document_where_it_suffices() -> None:
    world = World({"answers": {MADE: "Jena"}})
    answer = await world.ask(MADE)
    assert (answer.answer, answer.no_answer, answer.rounds, answer.documents_used) == ("Jena [1]", False, 1, 1)
    (source,) = answer.sources
    assert (source.chunk.document, source.chunk.metadata) == ("a", {"from": "a"})


async def test_three_documents_after_a_refusal() -> None:
    world = World({"answers": {SOLD: "Ada"}, "needs": {SOLD: 2}})
    answer = await world.ask(SOLD)
    assert (answer.answer or "").startswith("Ada [")
    assert [(one.documents, one.refused) for one in answer.asked] == [(1, True), (3, False)]
    assert (answer.rounds, answer.documents_used, len(answer.sources)) == (2, 3, 3)
    cited = int((answer.answer or "")[5])
    assert answer.sources[cited - 1].chunk.document == "c"


async def test_every_round_is_paid_for() -> None:
    world = World({"answers": {}}, price=Price(2.0, 10.0))
    answer = await world.ask(MADE)
    assert [one.documents for one in answer.asked] == [1, 3]
    assert answer.tokens == answer.asked[0].tokens + answer.asked[1].tokens
    assert answer.asked[1].tokens.prompt > answer.asked[0].tokens.prompt > 0
    assert answer.cost == pytest.approx((answer.tokens.prompt * 2 + answer.tokens.completion * 10) / 1e6)
    assert (answer.answer, answer.no_answer, len(answer.sources)) == (None, True, 3)
    again = await world.ask(MADE + " ")
    assert (again.tokens, again.cost, again.rounds) == (Tokens(), 0.0, 2)
    assert len(world.model.prompts) == 2


@pytest.mark.parametrize(
    "says", ["", "no information", '"No Information!"', "NO INFORMATION. The documents speak of lamps."]
)
async def test_a_refusal_is_known_in_any_dress(says: str) -> None:
    answer = await World({"says_no": says}).ask(MADE)
    assert (answer.answer, answer.no_answer, answer.rounds) == (None, True, 2)


async def test_the_sentence_configured_is_the_one_in_the_prompt() -> None:
    world = World({}, no_answer="Nothing found")
    assert (await world.ask(MADE)).no_answer
    assert all('say "Nothing found".' in one.messages(as_json=False)[1]["content"] for one in world.model.prompts)
    other = World({"says_no": "No information"}, no_answer="Nothing found")
    assert (await other.ask(MADE)).answer == "No information"


async def test_the_request_s_model_is_asked_in_every_round() -> None:
    world = World({})
    answer = await world.ask(MADE, model="large")
    assert (world.model.models, answer.model) == (["large", "large"], "large")


@pytest.mark.parametrize(("k", "documents"), [(1, [1]), (2, [1, 2]), (4, [1, 3, 4]), (100, [1, 3, 4])])
async def test_k_is_the_most(k: int, documents: list[int]) -> None:
    """Of four chunks there are: when they are exhausted it ends."""
    world = World({})
    assert [one.documents for one in (await world.ask(MADE, k=k)).asked] == documents
    assert [len(prompt.passages) for prompt in world.model.prompts] == documents


async def test_the_strategy_is_the_query_s_else_the_pipeline_s() -> None:
    world = World({"answers": {MADE: "Jena"}}, strategy="fixed", retrieval=RetrievalSettings(k=2))
    used = [(await world.ask(MADE, strategy=one)).documents_used for one in (None, "fixed", "adaptive", "retrieve")]
    assert used == [2, 2, 1, 2]


async def test_a_model_that_cannot_refuse_is_asked_with_all_at_once() -> None:
    """Else what it makes of the first document would be the answer, whatever stands there."""
    world = World({"answers": {SOLD: "Ada"}}, retrieval=RetrievalSettings(k=3))
    world.asking.llm.can_refuse = False  # type: ignore[attr-defined]
    answer = await world.ask(SOLD)
    assert [one.documents for one in answer.asked] == [3]
    assert "Ada" in (answer.answer or "")


def test_adaptive_is_the_strategy_where_none_is_named() -> None:
    assert AnswerSettings().strategy == DocumentSettings.of("shop").answer.strategy == "adaptive"


async def test_nothing_is_asked_where_nothing_is_found_or_all_is_hopeless() -> None:
    world = World({}, adaptive=AdaptiveSettings(abstain_below=-3.0, evidence=Evidence(0.0, 0.0, -4.0)))
    for chosen in (None, "from == 'z'"):
        answer = await world.ask(MADE, filter=chosen)
        assert (answer.no_answer, answer.rounds, answer.sources, answer.tokens) == (True, 0, (), Tokens())
    assert world.model.prompts == []


async def test_a_false_refusal_is_put_right_by_the_posterior() -> None:
    """The scores are sure, the model a little less that it should refuse: asked again with the word forbidden."""
    script = {"answers": {MADE: "Jena"}, "needs": {MADE: 9}, "odds_no": {MADE: 0.5}}
    sure = AdaptiveSettings(posterior=True, evidence=Evidence(0.0, 0.0, 2.0))
    world = World(script, adaptive=sure)
    answer = await world.ask(MADE)
    assert (answer.answer, [one.documents for one in answer.asked]) == ("Jena [1]", [1, 1])
    assert [prompt.forbid_no for prompt in world.model.prompts] == [False, True]
    assert (await World(script).ask(MADE)).no_answer


async def test_and_in_one_call_where_the_model_tells_odds_of_what_is_forbidden() -> None:
    """The same answer, at half of the tokens; and what is refused is refused."""
    script = {"answers": {MADE: "Jena"}, "needs": {MADE: 9}, "odds_no": {MADE: 0.5}}
    sure = AdaptiveSettings(posterior=True, evidence=Evidence(0.0, 0.0, 2.0))
    two, one = World(script, adaptive=sure), World({**script, "tells_forbidden_odds": True}, adaptive=sure)
    before, answer = await two.ask(MADE), await one.ask(MADE)
    assert (answer.answer, answer.no_answer, answer.sources) == ("Jena [1]", False, before.sources)
    assert [prompt.forbid_no for prompt in one.model.prompts] == [True]
    assert 2 * answer.tokens.prompt == before.tokens.prompt
    surer = {**script, "odds_no": {MADE: 0.99}, "tells_forbidden_odds": True}
    assert (await World(surer, adaptive=sure).ask(MADE)).no_answer


async def test_an_answer_against_the_evidence_is_not_given() -> None:
    doubtful = AdaptiveSettings(posterior=True, evidence=Evidence(0.0, 0.0, -9.0))
    answer = await World({"answers": {MADE: "Jena"}}, adaptive=doubtful).ask(MADE)
    assert (answer.answer, answer.no_answer, answer.rounds) == (None, True, 1)


async def test_a_model_that_fails_is_an_error() -> None:
    world = World({"answers": {MADE: "Jena"}, "fails": 1})
    with pytest.raises(ModelUnavailableError):
        await world.ask(MADE)
    assert (await world.ask(MADE)).answer == "Jena [1]"


async def test_an_answer_is_heard_while_it_is_made() -> None:
    """Only the answer: not the round that was refused; from the cache in one piece."""
    world = World({"answers": {SOLD: "Ada"}, "needs": {SOLD: 2}})
    pieces: list[str] = []
    answer = await world.ask(SOLD, said=pieces.append)
    assert ("".join(pieces), len(pieces)) == (answer.answer, 2)
    again: list[str] = []
    assert (await world.ask(SOLD, said=again.append)).answer == answer.answer
    assert again == [answer.answer]
    nothing: list[str] = []
    assert (await World({}).ask(MADE, said=nothing.append)).no_answer
    assert nothing == []


@pytest.mark.parametrize(("intercept", "heard"), [(9.0, ["Jena [1]"]), (-9.0, [])])
async def test_an_answer_that_may_not_be_given_is_heard_in_the_end(intercept: float, heard: list[str]) -> None:
    rule = AdaptiveSettings(posterior=True, evidence=Evidence(0.0, 0.0, intercept))
    pieces: list[str] = []
    await World({"answers": {MADE: "Jena"}}, adaptive=rule).ask(MADE, said=pieces.append)
    assert pieces == heard


async def test_sources_stay_at_home_where_they_are_not_wanted() -> None:
    answer = await World({"answers": {MADE: "Jena"}}).ask(MADE, return_sources=False)
    assert (answer.sources, answer.documents_used) == ((), 1)


async def test_two_chunks_with_the_same_text_are_shown_once() -> None:
    """Of one parent, or of two copies of a document: the second says nothing new."""
    world = World({})
    query = Query("q", MADE)
    ranked = await world.asking.found(query, await retriever({"a": TEXTS["a"], "b": TEXTS["a"], "c": TEXTS["c"]}))
    await world.asking.told(query, ranked, Answer("q", MADE), world.cache)
    assert [[one.uri for one in prompt.passages] for prompt in world.model.prompts] == [["a"], ["a", "c"]]


@settings(max_examples=30, deadline=None)
@given(
    some.integers(1, 6),
    some.sampled_from(["Jena", "Ada", "glass", "noon", "Turin"]),
    some.booleans(),
    some.booleans(),
)
async def test_an_answer_is_given_where_a_document_within_reach_holds_it(
    k: int, held: str, posterior: bool, tells: bool
) -> None:
    """Whatever the limit and the rule: never invented, never asked with the same documents twice, tokens add up."""
    rule = AdaptiveSettings(posterior=posterior, evidence=Evidence(0.0, 0.0, 0.0))
    world = World({"answers": {SOLD: held}, "tells_forbidden_odds": tells}, adaptive=rule)
    answer = await world.ask(SOLD, k=k)
    shown = [tuple(one.chunk for one in prompt.passages) for prompt in world.model.prompts]
    assert len(set(shown)) == len(shown)
    reached = any(held in passage.text for prompt in world.model.prompts for passage in prompt.passages)
    assert (answer.answer is not None) == reached
    assert sum((one.tokens for one in answer.asked), Tokens()) == answer.tokens
    assert replace(answer, asked=()).documents_used <= k
