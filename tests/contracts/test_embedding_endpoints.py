"""What the adapters of embedding endpoints promise alike: over servers that speak as the providers document it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from millstream.rag.embedder import Role, Vectors
from millstream.rag.errors import EmbeddingError, PartError
from millstream.rag.parts import part_named
from tests.rag.http_server import Reply, serving

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Kind:
    """One provider's words."""

    name: str
    path: str
    reply: Callable[[Rows], dict[str, Any]]
    texts: Callable[[dict[str, Any]], list[str]]
    shortened: str
    """The key by which fewer dimensions are asked for."""


def _openai(rows: Rows) -> dict[str, Any]:
    """Not in order: it is the index that counts."""
    data = [{"object": "embedding", "index": number, "embedding": list(row)} for number, row in enumerate(rows)]
    return {"object": "list", "model": "m", "data": data[::-1], "usage": {"prompt_tokens": 5}}


KINDS = [
    Kind("openai", "/v1/embeddings", _openai, lambda body: body["input"], "dimensions"),
    Kind(
        "cohere",
        "/v1/embed",
        lambda rows: {"id": "x", "embeddings": {"float": [list(row) for row in rows]}, "texts": []},
        lambda body: body["texts"],
        "output_dimension",
    ),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


async def no_pause(seconds: float) -> None:
    """Stands in for sleeping."""


async def embed(
    kind: Kind, texts: Sequence[str], *replies: Reply, role: Role = "document", **options: Any
) -> tuple[Vectors, list[dict[str, Any]]]:
    async with serving(*replies) as server:
        chosen = {"url": server.url, "model": "m", "dimensions": 2, "api_key_env": "", "sleep": no_pause, **options}
        embedder = part_named("embedder", kind.name, chosen)
        try:
            return await embedder.embed(texts, role), server.requests
        finally:
            await embedder.close()


@every_kind
async def test_rows_have_length_one_and_the_order_of_the_texts(kind: Kind) -> None:
    vectors, (request,) = await embed(kind, ["a", "b"], Reply(body=kind.reply([[3, 4], [0, 2e300]])))
    assert np.abs(vectors - np.array([[0.6, 0.8], [0, 1]])).max() < 1e-6
    assert vectors.dtype == np.float32
    assert (request["path"], kind.texts(request["body"]), request["body"]["model"]) == (kind.path, ["a", "b"], "m")


@every_kind
async def test_many_texts_are_sent_in_calls_of_a_limited_size(kind: Kind) -> None:
    replies = [Reply(body=kind.reply([[1, 0], [0, 1]])), Reply(body=kind.reply([[1, 0]]))]
    vectors, requests = await embed(kind, ["a", "b", "c"], *replies, texts_max=2)
    assert [kind.texts(one["body"]) for one in requests] == [["a", "b"], ["c"]]
    assert vectors.shape == (3, 2)


@every_kind
async def test_no_texts_ask_nobody(kind: Kind) -> None:
    vectors, requests = await embed(kind, [])
    assert (vectors.shape, requests) == ((0, 2), [])


@every_kind
async def test_texts_are_cut_and_never_empty(kind: Kind) -> None:
    replies = Reply(body=kind.reply([[1, 0]] * 3))
    _, (request,) = await embed(kind, ["abcdef", "", " \n"], replies, text_chars_max=4)
    assert kind.texts(request["body"]) == ["abcd", " ", " "]


@every_kind
async def test_fewer_dimensions_are_asked_for_where_it_is_wanted(kind: Kind) -> None:
    for shorten in (False, True):
        _, (request,) = await embed(kind, ["a"], Reply(body=kind.reply([[1, 0]])), shorten=shorten)
        assert request["body"].get(kind.shortened) == (2 if shorten else None)


async def test_the_side_of_the_search_is_told() -> None:
    openai, cohere = KINDS
    for role, prefix, told in (("query", "q: ", "search_query"), ("document", "d: ", "search_document")):
        options = {"query_prefix": "q: ", "document_prefix": "d: "}
        _, (request,) = await embed(openai, ["a"], Reply(body=_openai([[1, 0]])), role=role, **options)  # type: ignore[arg-type]
        assert request["body"]["input"] == [f"{prefix}a"]
        _, (request,) = await embed(cohere, ["a"], Reply(body=cohere.reply([[1, 0]])), role=role)  # type: ignore[arg-type]
        assert request["body"]["input_type"] == told


@every_kind
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(401, {"error": "bad key"}), "status 401.*bad key"),
        (Reply(200, b"<html>"), "not JSON"),
        (Reply(200, {}), "holds no vectors"),
        (Reply(200, []), "holds no vectors"),
        (Reply(200, {"data": [], "embeddings": {"float": []}}), r"shape \(0,\) for 1 texts; dimensions says 2"),
        (Reply(200, {"data": "x", "embeddings": "x"}), "holds no vectors"),
    ],
)
async def test_a_failure_is_an_error_that_says_what(kind: Kind, reply: Reply, reason: str) -> None:
    with pytest.raises(EmbeddingError, match=reason):
        await embed(kind, ["a"], reply)


@every_kind
@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([[1, 0, 0]], r"shape \(1, 3\) for 1 texts; dimensions says 2"),
        ([[1, 0], [0, 1]], r"shape \(2, 2\) for 1 texts"),
        ([["x", 1]], "holds no vectors"),
        ([[None, 1]], "not finite"),
    ],
)
async def test_vectors_that_are_none_are_refused(kind: Kind, rows: Any, reason: str) -> None:
    with pytest.raises(EmbeddingError, match=reason):
        await embed(kind, ["a"], Reply(body=kind.reply(rows)))


@every_kind
async def test_a_passing_failure_is_tried_again(kind: Kind) -> None:
    vectors, requests = await embed(kind, ["a"], Reply(503), Reply(429), Reply(body=kind.reply([[0, 1]])))
    assert (vectors.tolist(), len(requests)) == ([[0, 1]], 3)


@every_kind
async def test_the_key_is_in_its_header_and_in_no_text(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEY", "sk-secret")
    _, (request,) = await embed(kind, ["a"], Reply(body=kind.reply([[0, 1]])), api_key_env="OUR_KEY")
    assert request["headers"]["authorization"] == "bearer sk-secret"
    with pytest.raises(EmbeddingError) as caught:
        await embed(kind, ["a"], Reply(403, {"error": "wrong key sk-secret"}), api_key_env="OUR_KEY")
    options = {"url": "http://127.0.0.1:1/v1", "model": "m", "dimensions": 2, "api_key_env": "OUR_KEY"}
    made = part_named("embedder", kind.name, options)
    assert "sk-secret" not in f"{caught.value} {made!r} {made.fingerprint()} {json.dumps(request['body'])}"
    monkeypatch.delenv("OUR_KEY")
    with pytest.raises(PartError, match="OUR_KEY is not set"):
        part_named("embedder", kind.name, options)


@every_kind
def test_a_fingerprint_tells_models_apart(kind: Kind) -> None:
    def fingerprint(**options: Any) -> str:
        base = {"url": "http://127.0.0.1:1/v1", "model": "m", "dimensions": 2, "api_key_env": ""}
        return str(part_named("embedder", kind.name, {**base, **options}).fingerprint())

    assert len({fingerprint(), fingerprint(model="n"), fingerprint(dimensions=3)}) == 3


@every_kind
def test_options_that_make_no_sense_are_refused(kind: Kind) -> None:
    base = {"url": "http://127.0.0.1:1/v1", "model": "m", "dimensions": 2, "api_key_env": ""}
    for wrong in ({"dimensions": 0}, {"texts_max": 0}, {"url": "ftp://x"}, {"attempts_max": 0}):
        with pytest.raises(PartError, match=f"embedder '{kind.name}'"):
            part_named("embedder", kind.name, {**base, **wrong})
