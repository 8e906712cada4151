"""What every ranking promises, whatever it goes by."""

from __future__ import annotations

import numpy as np
import pytest

from millstream.rag.document import Chunk, chunk_ids
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.errors import PartError
from millstream.rag.filters import filter_of
from millstream.rag.parse_job import Part
from millstream.rag.parts import part_names
from millstream.rag.ranking import made_ranking
from millstream.rag.retrieve import Retriever, Wanted
from millstream.rag.settings import RetrievalSettings
from millstream.rag.updates import vector_bytes, write_update
from millstream.rag.view_state import ViewPlan, ViewState
from millstream.state.stores.memory import MemoryDatabase

HASHING = Hashing(64)
TEXTS = [
    "The lamp is kept in the cellar.",
    "The lamp and the lamp oil are kept on a shelf, and the lamp maker says why.",
    "Trains leave at noon.",
    "Die Lampe steht im Keller.",
    "Лампа стоит в подвале.",
    "地下室にランプがあります。",
    "",
]


async def view_of(texts: list[str]) -> ViewState:
    view = ViewState(ViewPlan("updates", "id", HASHING.fingerprint(), 64), MemoryDatabase())
    vectors = await HASHING.embed(texts, "document") if texts else np.zeros((0, 64), np.float32)
    records = []
    for number, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
        name = f"d{number}"
        chunk = Chunk(chunk_ids(name, [text])[0], name, text, {"even": number % 2 == 0})
        record = write_update(chunk, vector_bytes(vector, "f32"), HASHING.fingerprint(), "f32")
        records.append((chunk.key.encode(), record))
    view.apply(0, len(texts), records)
    return view


@pytest.fixture(params=part_names("ranking"))
def settings(request: pytest.FixtureRequest) -> RetrievalSettings:
    return RetrievalSettings(ranking=Part(request.param))


async def ranked(view: ViewState, settings: RetrievalSettings, question: str, k: int, text: str | None = None):
    """Documents and scores."""
    vector = (await HASHING.embed([question], "query"))[0]
    wanted = Wanted(question, vector, k, None if text is None else filter_of(text))
    hits = Retriever(view, settings).retrieve(wanted)
    return [hit.chunk.document for hit in hits], [hit.score for hit in hits]


async def test_what_the_question_is_about_comes_first(settings: RetrievalSettings) -> None:
    found, scores = await ranked(await view_of(TEXTS), settings, "When do trains leave?", 5)
    assert found[0] == "d2"
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(("question", "best"), [("Wo steht die Lampe?", "d3"), ("Где лампа стоит?", "d4")])
async def test_questions_are_in_any_script(settings: RetrievalSettings, question: str, best: str) -> None:
    found, _ = await ranked(await view_of(TEXTS), settings, question, 1)
    assert found == [best]


@pytest.mark.parametrize("question", ["", "   ", "the of and", "🙂", "\x00", "zzz qqq", "ランプ " * 50, "a" * 9_999])
async def test_no_question_is_too_strange(settings: RetrievalSettings, question: str) -> None:
    found, scores = await ranked(await view_of(TEXTS), settings, question, 3)
    assert len(found) == len(set(found)) <= 3
    assert all(np.isfinite(scores))


async def test_the_same_comes_out_again(settings: RetrievalSettings) -> None:
    first = await ranked(await view_of(TEXTS), settings, "lamp in the cellar", 7)
    assert first == await ranked(await view_of(TEXTS), settings, "lamp in the cellar", 7)


async def test_no_more_than_k_come(settings: RetrievalSettings) -> None:
    whole, _ = await ranked(await view_of(TEXTS), settings, "lamp", 7)
    for k in (1, 2, 3):
        assert whole[:k] == (await ranked(await view_of(TEXTS), settings, "lamp", k))[0]


async def test_equals_come_by_number(settings: RetrievalSettings) -> None:
    """More of them than the pool holds, on both sides."""
    view = await view_of(["The lamp is red."] * 120)
    found, scores = await ranked(view, settings, "lamp", 10)
    assert found == [f"d{number}" for number in range(10)]
    if settings.ranking.name != "rrf":  # goes by places, in which no two are equal
        assert len(set(scores)) == 1


async def test_only_what_the_filter_lets_through_is_ranked(settings: RetrievalSettings) -> None:
    view = await view_of([f"lamp number {number}" for number in range(200)])
    found, _ = await ranked(view, settings, "lamp", 100, "even")
    assert len(found) == 100
    assert {int(name[1:]) % 2 for name in found} == {0}
    assert (await ranked(view, settings, "lamp", 100, "uri == 'd17'"))[0] == ["d17"]
    assert await ranked(view, settings, "lamp", 100, "uri == 'nothing'") == ([], [])


async def test_nothing_is_found_in_nothing(settings: RetrievalSettings) -> None:
    assert await ranked(await view_of([]), settings, "lamp", 5) == ([], [])


async def test_what_was_removed_is_not_ranked(settings: RetrievalSettings) -> None:
    view = await view_of(TEXTS)
    gone = Chunk(chunk_ids("d2", [TEXTS[2]])[0], "d2", TEXTS[2])
    view.apply(0, len(TEXTS) + 1, [(gone.key.encode(), None)])
    assert "d2" not in (await ranked(view, settings, "When do trains leave?", 7))[0]


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (Part("bm26"), "no ranking 'bm26'; did you mean 'bm25'"),
        (Part("bm25", {"k2": 1}), "no option 'k2'"),
        (Part("bm25", {"b": 2}), "b from 0 to 1"),
        (Part("rrf", {"constant": 0}), "at least 1"),
        (Part("hybrid", {"vector_weight": 1.5}), "from 0 to 1"),
        (Part("coverage", {"weight": -1}), "must not be negative"),
    ],
)
def test_a_ranking_that_cannot_be_is_refused(part: Part, reason: str) -> None:
    with pytest.raises(PartError, match=reason):
        made_ranking(RetrievalSettings(ranking=part))
