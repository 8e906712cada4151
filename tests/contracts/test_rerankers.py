"""What every reranker promises: the hits it was given, each once, in another order; and what is special to each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millstream.rag.document import Chunk, Hit, Tokens
from millstream.rag.embedder import Role, Vectors, unit
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.errors import ModelError, ModelRefusedError, ModelUnavailableError, PartError
from millstream.rag.llm import Completion
from millstream.rag.llms.quote import Quote
from millstream.rag.parse_job import Part
from millstream.rag.parts import part_named, part_names
from millstream.rag.prompt import Prompt
from millstream.rag.reranker import Candidates, Reranker, made_reranker
from millstream.rag.rerankers.http import Http
from millstream.rag.rerankers.llm import order_of
from millstream.rag.rerankers.maxsim import TokenCache, maxsims
from tests.contracts.test_embedders import needs_weights
from tests.contracts.test_llms import Pauses
from tests.rag.http_server import Reply, Server, serving
from tests.rag.onnx_files import cross_encoder

TEXTS = ("train noon", "lamp made jena", "lamp lamp lamp", "train")


def candidates(question: str = "lamp made", texts: Sequence[str] = TEXTS, sigma: float = 0.1) -> Candidates:
    """Best first, with scores 10, 9, 8, ..."""
    hits = [Hit(Chunk(f"{n:032x}", f"{n}.md", text), 10.0 - n) for n, text in enumerate(texts)]
    return Candidates(question, tuple(hits), sigma)


def order(hits: Sequence[Hit]) -> list[str]:
    return [hit.chunk.document for hit in hits]


class Words(Hashing):
    """An embedder with token vectors: each word its hashed vector, so that equal words have the cosine 1."""

    asked: list[tuple[str, ...]]

    async def token_vectors(self, texts: Sequence[str], role: Role) -> list[Vectors]:
        object.__setattr__(self, "asked", [*getattr(self, "asked", []), tuple(texts)])
        return [await self.embed(text.split(), role) for text in texts]


@dataclass
class Scripted:
    """A model that says what it is told to."""

    says: str | None = "[2] [1]"
    cited: tuple[int, ...] = (2, 1)
    asked: list[Prompt] = field(default_factory=list)

    def fingerprint(self) -> str:
        return "scripted"

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        self.asked.append(prompt)
        return Completion(self.says, self.cited, Tokens(5, 2), "s")

    async def close(self) -> None: ...


async def reranker_of(kind: str, folder: Path, stack: AsyncExitStack) -> Reranker:
    options: dict[str, Any] = {}
    if kind == "http":
        results = [{"index": n, "relevance_score": s} for n, s in ((1, 0.9), (2, 0.5), (0, 0.5), (3, 0.1))]
        server = await stack.enter_async_context(serving(*[Reply(body={"results": results})] * 3))
        options = {"url": server.url, "model": "m"}
    if kind == "cross_encoder":
        options = {"path": cross_encoder(folder)}
    return made_reranker(Part(kind, options), Words(), Quote())


@pytest.fixture(params=part_names("reranker"))
async def reranker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Reranker]:
    async with AsyncExitStack() as stack:
        made = await reranker_of(request.param, tmp_path, stack)
        yield made
        await made.close()


async def test_every_hit_comes_back_once_with_scores_that_fall(reranker: Reranker) -> None:
    ranked = await reranker.rerank(candidates())
    assert sorted(order(ranked.hits)) == sorted(order(candidates().hits))
    scores = [hit.score for hit in ranked.hits]
    assert scores == sorted(scores, reverse=True)


async def test_the_same_again_gives_the_same(reranker: Reranker) -> None:
    first, again = [await reranker.rerank(candidates()) for _ in range(2)]
    assert first.hits == again.hits


async def test_a_chunk_keeps_all_it_has(reranker: Reranker) -> None:
    ranked = await reranker.rerank(candidates())
    assert {hit.chunk.id: hit.chunk for hit in ranked.hits} == {hit.chunk.id: hit.chunk for hit in candidates().hits}


@pytest.mark.parametrize("texts", [(), ("lamp",)])
async def test_nothing_and_one_stay(reranker: Reranker, texts: tuple[str, ...]) -> None:
    given = candidates(texts=texts)
    if isinstance(reranker, Http):
        assert (await reranker.rerank(given)).hits == list(given.hits)  # nobody is asked
    assert order((await reranker.rerank(given)).hits) == order(given.hits)


async def test_the_fingerprint_is_stable(reranker: Reranker) -> None:
    before = reranker.fingerprint()
    await reranker.rerank(candidates())
    assert before == reranker.fingerprint() != ""


async def test_the_better_chunk_comes_first(reranker: Reranker) -> None:
    if reranker.fingerprint() == "none/1":
        assert (await reranker.rerank(candidates())).hits == list(candidates().hits)
    else:
        assert order((await reranker.rerank(candidates())).hits)[0] in {"1.md", "2.md"}


def test_the_usual_one_is_what_the_embedder_can() -> None:
    assert made_reranker(None, Hashing(), Quote()).fingerprint() == "none/1"
    assert made_reranker(None, Words(), Quote()).fingerprint() == "maxsim/1 1.0"


# maxsim


async def test_s2_is_s1_and_maxsim_over_sigma() -> None:
    """Two of two words of the question in 1.md, one in 2.md, none in the others."""
    reranker = made_reranker(Part("maxsim"), Words(4096), Quote())
    hits = (await reranker.rerank(candidates(sigma=0.5))).hits
    assert order(hits) == ["1.md", "0.md", "2.md", "3.md"]
    scores = {hit.chunk.document: round(hit.score, 1) for hit in hits}
    assert scores["1.md"] == 9.0 + 1 / 0.5
    assert scores["2.md"] == pytest.approx(8.0 + 0.5 / 0.5, abs=0.3)


async def test_token_vectors_are_made_once_a_chunk() -> None:
    words = Words()
    reranker = made_reranker(Part("maxsim"), words, Quote())
    for texts in (("a b", "c"), ("c", "d", "a b", "d")):
        await reranker.rerank(candidates("a", texts))
    assert words.asked == [("a",), ("a b", "c"), ("a",), ("d",)]


async def test_a_cache_of_nothing_changes_nothing() -> None:
    small, large = [
        made_reranker(Part("maxsim", options), Words(), Quote()) for options in ({"cache_bytes_max": 0}, {})
    ]
    assert (await small.rerank(candidates())).hits == (await large.rerank(candidates())).hits


def test_the_cache_lets_go_of_what_was_not_used_longest() -> None:
    cache = TokenCache(bytes_max=10, entries_max=3)
    for key, size in (("a", 2), ("b", 2), ("c", 2)):
        cache.put(key, np.zeros((1, size // 2), np.float16))
    assert cache.get("a") is not None
    cache.put("d", np.zeros((1, 1), np.float16))
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    cache.put("e", np.zeros((1, 4), np.float16))
    assert (len(cache), cache.size_bytes) == (2, 10)
    cache.put("f", np.zeros((1, 6), np.float16))
    assert (cache.get("f"), cache.size_bytes) == (None, 10)


def test_maxsim_is_what_its_definition_says() -> None:
    draw = np.random.default_rng(1)
    asked, *chunks = [unit(draw.normal(size=(n, 8)).astype(np.float32)) for n in (3, 5, 1, 0, 7)]
    slow = [np.mean([max((q @ c for c in chunk), default=0) for q in asked]) for chunk in chunks]
    np.testing.assert_allclose(maxsims(asked, chunks), slow, atol=1e-6)
    assert maxsims(asked[:0], chunks).tolist() == [0, 0, 0, 0]


def test_maxsim_needs_an_embedder_that_can() -> None:
    with pytest.raises(PartError, match="'hashing' has no token vectors; take the embedder 'local'"):
        made_reranker(Part("maxsim"), Hashing(), Quote())


@needs_weights
async def test_the_packaged_model_has_token_vectors() -> None:
    """A unit row for each token, whatever stands beside the text; none for a text without tokens."""
    local = part_named("embedder", "local")
    texts = ["The lamp is broken.", "", "lamp " * 2000]
    together = await local.token_vectors(texts, "document")
    assert [len(vectors) for vectors in together] == [5, 0, 254]
    for text, vectors in zip(texts, together, strict=True):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), np.ones(len(vectors)), atol=1e-5)
        (alone,) = await local.token_vectors([text], "document")
        np.testing.assert_allclose(alone, vectors, atol=1e-4)
    await local.close()


# http


async def asked(shape: str, *replies: Reply, **options: Any) -> tuple[list[Hit], Server]:
    async with serving(*replies) as server:
        chosen: dict[str, Any] = {"url": server.url + "/rerank", "shape": shape, "sleep": Pauses()}
        reranker = Http(**(chosen | options))
        try:
            return (await reranker.rerank(candidates())).hits, server
        finally:
            await reranker.close()


COHERE = {
    "id": "1",
    "results": [{"index": 2, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.2}],
    "meta": {},
}
JINA = {
    "model": "m",
    "usage": {"total_tokens": 9},
    "results": [{"index": 2, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0}],
}
TEI = [{"index": 2, "score": 0.9}, {"index": 0, "score": 0.2}]


@pytest.mark.parametrize(
    ("shape", "reply", "body"),
    [
        ("cohere", COHERE, {"query": "lamp made", "documents": list(TEXTS), "top_n": 4, "model": "m"}),
        (
            "jina",
            JINA,
            {"query": "lamp made", "documents": list(TEXTS), "top_n": 4, "model": "m", "return_documents": False},
        ),
        ("tei", TEI, {"query": "lamp made", "texts": list(TEXTS), "truncate": True}),
    ],
)
async def test_each_shape_is_spoken(shape: str, reply: Any, body: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an endpoint leaves out comes last, in the order it had."""
    monkeypatch.setenv("OUR_KEY", "sk-secret")
    hits, server = await asked(shape, Reply(body=reply), model="m", api_key_env="OUR_KEY")
    assert order(hits) == ["2.md", "0.md", "1.md", "3.md"]
    request = server.requests[0]
    assert (request["path"], request["body"]) == ("/v1/rerank", body)
    assert request["headers"]["authorization"] == "bearer sk-secret"


@pytest.mark.parametrize(
    ("reply", "pause"),
    [(Reply(429, headers={"retry-after": "3"}), 3.0), (Reply(503), 0.2), (Reply(cut=True, body=TEI), 0.2)],
)
async def test_a_passing_failure_is_tried_again(reply: Reply, pause: float) -> None:
    sleep = Pauses()
    hits, _ = await asked("tei", reply, Reply(body=TEI), sleep=sleep)
    assert (order(hits)[0], sleep.asked) == ("2.md", [pause])


@pytest.mark.parametrize(
    ("reply", "error", "reason"),
    [
        (Reply(401, {"error": "no sk-secret"}), ModelRefusedError, r"status 401.*no \*\*\*"),
        (Reply(200, b"<html>"), ModelError, "not JSON"),
        (Reply(200, {"error": "x"}), ModelError, "no list of results"),
        (Reply(200, ["x"]), ModelError, "no result: x"),
        (Reply(200, [{"index": 9, "score": 1}]), ModelError, "document 9, of 4"),
        (Reply(200, [{"index": True, "score": 1}]), ModelError, "document True"),
        (Reply(200, [{"index": 1, "score": 1}] * 2), ModelError, "twice"),
        (Reply(200, [{"index": 1, "score": "high"}]), ModelError, "no number: 'high'"),
        (Reply(200, b'[{"index": 1, "score": null}]'), ModelError, "no number"),
        (Reply(429, headers={"retry-after": "60"}), ModelUnavailableError, "status 429"),
    ],
)
async def test_a_wrong_reply_is_an_error_that_says_what(
    reply: Reply, error: type, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_KEY", "sk-secret")
    with pytest.raises(error, match=reason) as caught:
        await asked("tei", reply, api_key_env="OUR_KEY")
    assert "sk-secret" not in str(caught.value)


def test_http_options_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEY", "sk-secret")
    for options in (
        {"url": "ftp://x"},
        {"url": "http://x", "shape": "other"},
        {"url": "http://x", "api_key_env": "NO"},
    ):
        with pytest.raises(PartError):
            part_named("reranker", "http", options)
    assert "sk-secret" not in repr(Http("http://x", api_key_env="OUR_KEY")) + Http("http://x").fingerprint()


# llm


@pytest.mark.parametrize(
    ("text", "cited", "rows"),
    [
        ("[3] [1] [2]", (3, 1, 2), [2, 0, 1, 3]),
        ("3, 1, 2", (), [2, 0, 1, 3]),
        ("3 > 9 > 3 > 1", (), [2, 0, 1, 3]),
        ("Document 4 is best; v2.x says 12.", (), [3, 0, 1, 2]),
        ("I cannot rank these.", (), [0, 1, 2, 3]),
        (None, (), [0, 1, 2, 3]),
        ("", (), [0, 1, 2, 3]),
    ],
)
def test_any_reply_is_an_order(text: str | None, cited: tuple[int, ...], rows: list[int]) -> None:
    assert order_of(Completion(text, cited), 4) == rows


async def test_the_model_is_asked_for_an_order_once() -> None:
    model = Scripted()
    reranker = made_reranker(Part("llm", {"chunk_chars_max": 6}), Hashing(), model)
    first, again = [await reranker.rerank(candidates()) for _ in range(2)]
    assert order(first.hits) == ["1.md", "0.md", "2.md", "3.md"]
    assert (first.hits, first.tokens, again.tokens) == (again.hits, Tokens(5, 2), Tokens())
    (prompt,) = model.asked
    assert (prompt.task, [passage.text for passage in prompt.passages]) == ("order", [text[:6] for text in TEXTS])
    assert "Do not answer it" in prompt.messages(as_json=True)[1]["content"]


# cross_encoder


@pytest.mark.parametrize("outputs", [1, 2])
async def test_a_cross_encoder_scores_pairs(tmp_path: Path, outputs: int) -> None:
    """The made model counts the question's first word in the pair: 1 in the question itself, and 0, 1, 3, 0 in the chunks."""
    reranker = part_named(
        "reranker", "cross_encoder", {"path": cross_encoder(tmp_path, outputs), "batch_chunks_max": 3}
    )
    hits = (await reranker.rerank(candidates())).hits
    assert [(hit.chunk.document, hit.score) for hit in hits] == [("2.md", 4), ("1.md", 2), ("0.md", 1), ("3.md", 1)]


async def test_a_model_of_another_kind_is_an_error(tmp_path: Path) -> None:
    reranker = part_named("reranker", "cross_encoder", {"path": cross_encoder(tmp_path, 3)})
    with pytest.raises(ModelError, match="gives 3 numbers a pair"):
        await reranker.rerank(candidates())


def _broken(folder: Path) -> str:
    cross_encoder(folder)
    (folder / "model.onnx").write_bytes(b"junk")
    return str(folder)


@pytest.mark.parametrize(("make", "error"), [(_broken, ModelError), (str, PartError)])
async def test_a_folder_without_a_model_is_named(tmp_path: Path, make: Callable[[Path], str], error: type) -> None:
    with pytest.raises(error, match=r"model\.onnx"):
        await part_named("reranker", "cross_encoder", {"path": make(tmp_path)}).rerank(candidates())
