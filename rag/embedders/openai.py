"""Any endpoint with OpenAI's embeddings: OpenAI, vLLM, Ollama, TEI, llama.cpp's server, gateways.

Models that want to know which side of a search a text is on are told by a prefix (`query_prefix`, `document_prefix`: E5's are
"query: " and "passage: "). Tried again as `rag/http_json.py` says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from ..embedder import Role
from ..endpoint_embedder import EndpointEmbedder
from ..http_json import Clock, EndpointLimits, JsonEndpoint, Sleep, checked_url, key_of
from ..http_retry import Attempts


class Openai(EndpointEmbedder):
    """`url`: up to and with `/v1`. `dimensions`: of the model's vectors. `shorten`: whether to ask for that many (models that can).

    `api_key_env`: name of the environment variable with the key; "" where none is needed. Raises PartError when it is not set.
    """

    def __init__(
        self,
        url: str,
        model: str,
        dimensions: int,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        shorten: bool = False,
        query_prefix: str = "",
        document_prefix: str = "",
        texts_max: int = 256,
        text_chars_max: int = 24_000,
        timeout_ms: int = 60_000,
        attempts_max: int = 4,
        pause_ms: int = 500,
        pause_ms_max: int = 20_000,
        limits: Mapping[str, Any] | EndpointLimits | None = None,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = time.monotonic,
    ) -> None:
        attempts = Attempts(attempts_max, pause_ms, pause_ms_max)
        key = key_of("embedder openai", api_key_env)
        endpoint = JsonEndpoint(
            checked_url(url) + "/embeddings", key, timeout_ms, attempts, sleep, limits=limits, clock=clock
        )
        super().__init__(endpoint, dimensions, texts_max, text_chars_max)
        self._model = model
        self._shorten = shorten
        self._prefix = {"query": query_prefix, "document": document_prefix}

    def __repr__(self) -> str:
        return f"Openai(url={self._endpoint.url!r}, model={self._model!r})"

    def fingerprint(self) -> str:
        return f"openai/1 {self._endpoint.url} {self._model} {self.dimensions} {self._prefix} {self._chars_max}"

    def request(self, texts: list[str], role: Role) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._model, "input": [self._prefix[role] + text for text in texts]}
        return body | ({"dimensions": self.dimensions} if self._shorten else {})

    def rows(self, reply: Any) -> list[Any]:
        listed = sorted(reply["data"], key=lambda one: one["index"])
        if [one["index"] for one in listed] != list(range(len(listed))):
            raise ValueError("every text has one row")
        return [one["embedding"] for one in listed]
