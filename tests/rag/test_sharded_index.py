"""An index in shards gives what one index gives; a shard that does not answer is named."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.rag.document import Hit
from millstream.rag.embedder import unit
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.errors import FilterError, IndexUnavailableError, NotFreshError
from millstream.rag.filters import filter_of
from millstream.rag.messages import Query
from millstream.rag.parse_job import Part
from millstream.rag.retrieve import Retriever, Wanted
from millstream.rag.settings import RetrievalSettings, ShardSettings
from millstream.rag.shard_messages import ShardQuery
from tests.crashes.virtual_time import run_virtually
from tests.rag.shards import Here, Record, record, sharded, split, view

DIMENSIONS = 32
WORDS = ["lamp", "train", "noon", "broken", "glass", "river", "42"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
steps = st.lists(
    st.tuples(st.booleans(), st.integers(0, 6), texts, st.integers(2019, 2022), st.sampled_from(["", "ann", "bob"])),
    min_size=1,
    max_size=30,
)
RANKINGS = ["coverage", "dense", "bm25", "hybrid"]
"""`rrf` goes by places alone, and places of equals are anybody's: it is compared where there are none, below."""


def embedded(text: str) -> np.ndarray:
    return asyncio.run(Hashing(DIMENSIONS).embed([text], "document"))[0]


def history(steps: list) -> list[Record]:
    """Puts, edits (the same text with other metadata) and deletes, as `index-updates` has them."""
    records = []
    for put, document, text, year, tenant in steps:
        metadata = {"year": year, **({"tenant": tenant} if tenant else {})}
        key, value = record(f"d{document}", text, embedded(text), metadata)
        records.append((key, value if put else None))
    return records


def look_up(asker: Here, retrieval: RetrievalSettings, query: Query, k: int, vector: np.ndarray) -> list[Hit]:
    async def run() -> list[Hit]:
        wanted = Wanted(query.question, vector, k, None, query.tenant)
        return await (await sharded(asker, retrieval).sought(query)).look_up(wanted)

    return asyncio.run(run())


def same_but_for_ties(found: list[Hit], expected: list[Hit]) -> bool:
    """Scores in their order; the chunks of each score, but for the last, of which there may be more than were wanted."""
    if [hit.score for hit in found] != pytest.approx([hit.score for hit in expected], rel=1e-4, abs=1e-4):
        return False
    last = expected[-1].score if expected else 0.0
    above = [{hit.chunk.key for hit in hits if hit.score > last + 1e-3 * abs(last)} for hits in (found, expected)]
    return above[0] == above[1] and len({hit.chunk.key for hit in found}) == len(found)


@settings(max_examples=60, deadline=None)
@given(
    steps,
    texts,
    st.integers(1, 5),
    st.integers(1, 8),
    st.sampled_from(RANKINGS),
    st.sampled_from([None, "year >= 2021", "uri glob 'd[0-3]'"]),
    st.sampled_from([None, "ann", "bob"]),
)
def test_it_gives_what_one_index_gives(
    steps: list, question: str, shards: int, k: int, ranking: str, wanted: str | None, tenant: str | None
) -> None:
    """Whatever was put, edited and deleted before, with any ranking, filter, tenant, number of hits and of shards."""
    records, retrieval, vector = history(steps), RetrievalSettings(ranking=Part(ranking)), embedded(question)
    whole = Retriever(view(records, DIMENSIONS), retrieval)
    expected = whole.retrieve(Wanted(question, vector, k, None if wanted is None else filter_of(wanted), tenant))
    asker = Here([view(part, DIMENSIONS) for part in split(records, shards)], retrieval)
    found = look_up(asker, retrieval, Query("", question, filter=wanted, tenant=tenant), k, vector)
    assert same_but_for_ties(found, expected)


def corpus(seed: int, chunks: int) -> list[Record]:
    """No two are equally near, nor equally long: there are no ties to be cut in two."""
    draw, rows = (
        random.Random(seed),
        unit(np.random.default_rng(seed).normal(size=(chunks, DIMENSIONS)).astype(np.float32)),
    )
    return [
        record(
            f"d{n}", " ".join([*draw.sample(WORDS, 3), *(f"filler{m}" for m in range(n))]), rows[n].astype(np.float32)
        )
        for n in range(chunks)
    ]


@pytest.mark.parametrize("ranking", ["dense", "bm25", "rrf", "hybrid"])
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_the_best_are_the_same_where_there_are_many_more(ranking: str, shards: int) -> None:
    """Each shard proposes as many as one index looks at: the best of all are among them."""
    retrieval = RetrievalSettings(pool_chunks=7, ranking=Part(ranking))
    for seed in range(5):
        records, query = corpus(seed, 90), Query("", "a broken lamp at noon")
        vector = unit(np.random.default_rng(100 + seed).normal(size=(1, DIMENSIONS)).astype(np.float32))[0]
        expected = Retriever(view(records, DIMENSIONS), retrieval).retrieve(Wanted(query.question, vector, 5))
        asker = Here([view(part, DIMENSIONS) for part in split(records, shards)], retrieval)
        found = look_up(asker, retrieval, query, 5, vector)
        assert same_but_for_ties(found, expected)


def test_with_each_shard_weighing_words_for_itself_it_would_not_be_the_same() -> None:
    """What the first round is for."""
    retrieval, different = RetrievalSettings(pool_chunks=7, ranking=Part("bm25")), 0
    for seed in range(5):
        records, query = corpus(seed, 90), Query("", "a broken lamp at noon")
        views = [view(part, DIMENSIONS) for part in split(records, 5)]

        def own(shard: int, request: ShardQuery, views: list = views) -> ShardQuery:
            return replace(request, counts=views[shard].keywords.counts(request.question))

        vector = np.zeros(DIMENSIONS, np.float32)
        expected = Retriever(view(records, DIMENSIONS), retrieval).retrieve(Wanted(query.question, vector, 5))
        found = look_up(Here(views, retrieval, change=own), retrieval, query, 5, vector)
        different += not same_but_for_ties(found, expected)
    assert different > 0


RECORDS = [
    record(f"d{n}", f"lamp {word}", embedded(f"lamp {word}"), {"year": 2020 + n}) for n, word in enumerate(WORDS)
]
PARTS = split(RECORDS, 3)
RETRIEVAL = RetrievalSettings()
QUERY = Query("", "a broken lamp")


def asker_of(**options: object) -> Here:
    return Here([view(part, DIMENSIONS) for part in PARTS], RETRIEVAL, **options)  # type: ignore[arg-type]


def sought(asker: Here, query: Query = QUERY) -> tuple[list[str], dict[int, str], dict[int, int], float]:
    """Documents found, what is missing, how far each shard was, and how long it took, by a clock moved by hand."""

    async def run() -> tuple[list[str], dict[int, str], dict[int, int], float]:
        one = await sharded(asker, RETRIEVAL).sought(query)
        hits = await one.look_up(Wanted(query.question, embedded_now, 9))
        return sorted(hit.chunk.document for hit in hits), one.missing, one.positions, asyncio.get_running_loop().time()

    embedded_now = embedded(query.question)
    return run_virtually(run())


def test_a_shard_that_does_not_answer_is_left_out_after_the_deadline_and_named() -> None:
    """And is not waited for again in the later rounds."""
    asker = asker_of(silent=[1], settings=ShardSettings(deadline_ms=700))
    documents, missing, positions, took_s = sought(asker)
    there = [key.decode().partition("#")[0] for shard in (0, 2) for key, _ in PARTS[shard] if key]
    assert documents == sorted(there)
    assert missing == {1: "no answer within 700 ms"}
    assert positions == {0: len(PARTS[0]), 2: len(PARTS[2])}
    assert took_s == pytest.approx(0.7, abs=0.01)
    assert [shard for shard, _ in asker.asked].count(1) == 1


def test_a_shard_that_says_later_is_asked_again_until_it_is_there() -> None:
    documents, missing, _, took_s = sought(asker_of(later=3, settings=ShardSettings(retry_ms=100)))
    assert (len(documents), missing) == (len(WORDS), {})
    assert took_s == pytest.approx(0.3, abs=0.01)


def test_one_that_says_later_until_the_deadline_is_missing_with_its_reason() -> None:
    """Never half an index in silence."""
    asker = asker_of(settings=ShardSettings(deadline_ms=300))
    asker.later[2] = 1_000
    assert sought(asker)[1] == {2: "it is catching up"}


def test_without_any_shard_the_question_fails() -> None:
    with pytest.raises(IndexUnavailableError, match="none of the index's 3 shards answers"):
        sought(asker_of(silent=[0, 1, 2]))


def test_a_position_that_is_asked_for_is_waited_for_longer_and_never_passed_over() -> None:
    """`fresh_after`: the answer is fresh or an error."""
    at = len(PARTS[1])
    documents, missing, _, _ = sought(asker_of(), replace(QUERY, fresh_after={1: at - 1}))
    assert (len(documents), missing) == (len(WORDS), {})
    with pytest.raises(NotFreshError, match=f"shard 1 of the index has not reached {at}"):
        sought(asker_of(), replace(QUERY, fresh_after={1: at}))
    with pytest.raises(NotFreshError, match="no partition 3"):
        sought(asker_of(), replace(QUERY, fresh_after={3: 0}))


def test_a_filter_that_can_be_evaluated_nowhere_is_an_error_and_elsewhere_is_not() -> None:
    with pytest.raises(FilterError):
        sought(asker_of(), replace(QUERY, filter={"jmespath": "contains(nothing, 'a')"}))
    documents, _, _, _ = sought(asker_of(), replace(QUERY, filter="year >= 2023"))
    assert documents == ["d3", "d4", "d5", "d6"]


def test_chunks_that_went_since_they_were_found_are_passed_over() -> None:
    asker = asker_of()
    gone = PARTS[0][0][0]

    def deleted(shard: int, request: ShardQuery) -> ShardQuery:
        if shard == 0 and request.ask == "fetch":
            asker.searches[0].view.apply(0, 99, [(gone, None)])
        return request

    asker.change = deleted
    documents, missing, _, _ = sought(asker)
    assert (len(documents), missing) == (len(WORDS) - 1, {})


def test_a_vector_of_another_embedder_is_an_error_that_says_so() -> None:
    def other(shard: int, request: ShardQuery) -> ShardQuery:
        return request if request.vector is None else replace(request, vector=request.vector[:8])

    with pytest.raises(IndexUnavailableError, match="8 dimensions, the index 32"):
        sought(asker_of(change=other))
