"""Any `/rerank` endpoint: Cohere's, Jina's (and vLLM's, Infinity's, LiteLLM's, which copy it), Hugging Face's TEI.

    cohere, jina    {"model", "query", "documents", "top_n"} -> {"results": [{"index", "relevance_score"}, ...]}
    tei             {"query", "texts", "truncate"}           -> [{"index", "score"}, ...]

An endpoint may leave hits out; they come last, in the order they had. What it says beside that (a number twice, one that does
not exist, a score that is none) is an error. Tried again as `rag/http_json.py` says.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any, Literal

from ..embedder import Embedder
from ..endpoint_gate import EndpointCounts
from ..errors import ModelError
from ..http_json import Clock, EndpointLimits, JsonEndpoint, Sleep, checked_url, key_of
from ..http_retry import Attempts
from ..llm import LLM
from ..reranker import Candidates, Ranked, ordered


class Http:
    """`url`: the whole of it, as in https://ranker.example.com/v2/rerank. `model`: "" for an endpoint that has but one.

    `api_key_env`: name of the environment variable with the key; "" where none is needed. Raises PartError when it is not set.
    """

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        shape: Literal["cohere", "jina", "tei"] = "cohere",
        api_key_env: str = "",
        chunk_chars_max: int = 8_000,
        timeout_ms: int = 10_000,
        attempts_max: int = 3,
        pause_ms: int = 200,
        pause_ms_max: int = 5_000,
        limits: Mapping[str, Any] | EndpointLimits | None = None,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = time.monotonic,
    ) -> None:
        if shape not in {"cohere", "jina", "tei"} or chunk_chars_max < 1:
            raise ValueError("shape must be cohere, jina or tei, and chunk_chars_max at least 1")
        attempts = Attempts(attempts_max, pause_ms, pause_ms_max)
        self._endpoint = JsonEndpoint(
            checked_url(url),
            key_of("reranker http", api_key_env),
            timeout_ms,
            attempts,
            sleep,
            limits=limits,
            clock=clock,
        )
        self._model = model
        self._shape = shape
        self._chars_max = chunk_chars_max

    def __repr__(self) -> str:
        return f"Http(url={self._endpoint.url!r}, model={self._model!r}, shape={self._shape!r})"

    @property
    def counts(self) -> EndpointCounts:
        return self._endpoint.counts

    def use(self, embedder: Embedder, llm: LLM) -> None:
        """Needs neither."""

    def fingerprint(self) -> str:
        return f"http/1 {self._endpoint.url} {self._model} {self._shape} {self._chars_max}"

    async def rerank(self, candidates: Candidates) -> Ranked:
        hits = candidates.hits
        if len(hits) < 2:
            return Ranked(list(hits))
        reply = await self._endpoint.post(self._body(candidates))
        scored = _scored(reply["results"] if isinstance(reply, dict) and "results" in reply else reply, len(hits))
        floor = min(scored.values(), default=0.0)
        return Ranked(ordered(hits, [scored.get(row, floor - 1.0 - row) for row in range(len(hits))]))

    async def close(self) -> None:
        await self._endpoint.close()

    def _body(self, candidates: Candidates) -> dict[str, Any]:
        texts = [hit.chunk.text[: self._chars_max] for hit in candidates.hits]
        if self._shape == "tei":
            return {"query": candidates.question, "texts": texts, "truncate": True}
        body: dict[str, Any] = {"query": candidates.question, "documents": texts, "top_n": len(texts)}
        if self._shape == "jina":
            body["return_documents"] = False
        return body | ({"model": self._model} if self._model else {})


def _scored(reply: Any, hits: int) -> dict[int, float]:
    """Scores by row. Raises ModelError for what is no list of rows and scores."""
    if not isinstance(reply, list):
        raise ModelError(f"the reranker's reply is no list of results: {str(reply)[:200]}")
    scored: dict[int, float] = {}
    for one in reply:
        row, score = _row(one)
        if type(row) is not int or not 0 <= row < hits or row in scored:
            raise ModelError(f"the reranker's reply names the document {row!r}, of {hits} from 0, or names it twice")
        if type(score) not in {int, float} or not math.isfinite(score):
            raise ModelError(f"the reranker's score of document {row} is no number: {score!r}")
        scored[row] = float(score)
    return scored


def _row(one: Any) -> tuple[Any, Any]:
    if not isinstance(one, dict):
        raise ModelError(f"the reranker's reply holds what is no result: {str(one)[:200]}")
    return one.get("index"), one.get("relevance_score", one.get("score"))
