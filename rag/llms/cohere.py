"""Cohere's chat (version 2), or any endpoint with the same.

The answer is asked for as JSON by a schema (`reply="json"`), or in words (`reply="text"`); what comes in the other form is understood
too. Tried again as `rag/http_json.py` says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from ..endpoint_llm import EndpointLLM, Request
from ..errors import ModelError
from ..http_json import Clock, EndpointLimits, JsonEndpoint, Sleep, checked_url, key_of
from ..http_retry import Attempts
from ..llm import Completion
from ..prompt import Prompt
from ..replies import ANSWER_SCHEMA, answer_in, text_of, tokens_in

_FORMAT: Final = {"type": "json_object", "schema": ANSWER_SCHEMA}


class Cohere(EndpointLLM):
    """`url`: up to and with `/v2`. `api_key_env`: name of the environment variable with the key; "" where none is needed.

    Raises PartError when the variable is not set.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str = "https://api.cohere.com/v2",
        api_key_env: str = "COHERE_API_KEY",
        reply: Literal["json", "text"] = "json",
        temperature: float = 0.0,
        answer_tokens_max: int = 500,
        timeout_ms: int = 60_000,
        attempts_max: int = 4,
        pause_ms: int = 500,
        pause_ms_max: int = 20_000,
        limits: Mapping[str, Any] | EndpointLimits | None = None,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = time.monotonic,
    ) -> None:
        attempts = Attempts(attempts_max, pause_ms, pause_ms_max)
        key = key_of("llm cohere", api_key_env)
        endpoint = JsonEndpoint(
            checked_url(url) + "/chat", key, timeout_ms, attempts, sleep, limits=limits, clock=clock
        )
        super().__init__(endpoint, model, reply, {"temperature": temperature, "max_tokens": answer_tokens_max})

    def request(self, prompt: Prompt, model: str, *, stream: bool) -> Request:
        body: dict[str, Any] = {"model": model, "messages": prompt.messages(as_json=self._json)}
        body |= self._body
        if self._json:
            body["response_format"] = _FORMAT
        return Request(body | ({"stream": True} if stream else {}))

    def completion(self, reply: Any, prompt: Prompt, model: str) -> Completion:
        return _completion(reply, prompt, model)

    def assembly(self) -> _Assembly:
        return _Assembly()


class _Assembly:
    """Deltas of the content, then an end with the counts of tokens."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._end: dict[str, Any] | None = None

    def add(self, event: Any) -> str:
        if event["type"] == "message-end":
            self._end = event.get("delta") or {}
        if event["type"] != "content-delta":
            return ""
        self._said.append(event["delta"]["message"]["content"].get("text") or "")
        return self._said[-1]

    def reply(self) -> Any:
        if self._end is None:
            return None
        return {"message": {"content": [{"text": "".join(self._said)}]}, "usage": self._end.get("usage")}


def _completion(reply: Any, prompt: Prompt, model: str) -> Completion:
    message = reply.get("message") if isinstance(reply, dict) else None
    if not isinstance(message, dict):
        raise ModelError(f"the endpoint's reply has no message: {str(reply)[:200]}")
    text, numbers = answer_in(text_of(message.get("content")), prompt)
    usage = reply.get("usage")
    counts = usage.get("tokens") if isinstance(usage, dict) else None
    return Completion(text, numbers, tokens_in(counts, "input_tokens", "output_tokens"), model)
