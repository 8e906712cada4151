"""What the adapters of model endpoints are alike in: how they name themselves, what their answers depend on, how they end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .http_json import JsonEndpoint
from .prompt import VERSION


class EndpointLLM:
    """`reply`: "json" or "text", what is asked for. `body`: what is sent with every request. Subclasses add `complete`.

    Raises ValueError for another reply.
    """

    def __init__(self, endpoint: JsonEndpoint, model: str, reply: str, body: Mapping[str, Any]) -> None:
        if reply not in {"json", "text"}:
            raise ValueError("reply must be json or text")
        self._endpoint = endpoint
        self._model = model
        self._json = reply == "json"
        self._body = dict(body)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        return f"{self._name}(url={self._endpoint.url!r}, model={self._model!r})"

    def fingerprint(self) -> str:
        told = f"{self._endpoint.url} {self._model} {self._json} {self._body}"
        return f"{self._name.lower()}/1 {told} prompt {VERSION}"

    async def close(self) -> None:
        await self._endpoint.close()
