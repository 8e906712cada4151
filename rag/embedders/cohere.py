"""Cohere's embeddings (version 2), or any endpoint with the same: queries and documents are told apart (`input_type`).

Tried again as `rag/http_json.py` says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from ..embedder import Role
from ..endpoint_embedder import EndpointEmbedder
from ..http_json import Clock, EndpointLimits, JsonEndpoint, Sleep, checked_url, key_of
from ..http_retry import Attempts

_INPUT_TYPE: Final = {"query": "search_query", "document": "search_document"}


class Cohere(EndpointEmbedder):
    """`url`: up to and with `/v2`. `dimensions`: of the model's vectors. `shorten`: whether to ask for that many (models that can).

    `api_key_env`: name of the environment variable with the key; "" where none is needed. Raises PartError when it is not set.
    """

    def __init__(
        self,
        model: str,
        dimensions: int,
        *,
        url: str = "https://api.cohere.com/v2",
        api_key_env: str = "COHERE_API_KEY",
        shorten: bool = False,
        texts_max: int = 96,
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
        key = key_of("embedder cohere", api_key_env)
        endpoint = JsonEndpoint(
            checked_url(url) + "/embed", key, timeout_ms, attempts, sleep, limits=limits, clock=clock
        )
        super().__init__(endpoint, dimensions, texts_max, text_chars_max)
        self._model = model
        self._shorten = shorten

    def __repr__(self) -> str:
        return f"Cohere(url={self._endpoint.url!r}, model={self._model!r})"

    def fingerprint(self) -> str:
        return f"cohere/1 {self._endpoint.url} {self._model} {self.dimensions} {self._chars_max}"

    def request(self, texts: list[str], role: Role) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._model, "texts": texts, "input_type": _INPUT_TYPE[role]}
        body["embedding_types"] = ["float"]
        return body | ({"output_dimension": self.dimensions} if self._shorten else {})

    def rows(self, reply: Any) -> list[Any]:
        rows: list[Any] = reply["embeddings"]["float"]
        return rows
