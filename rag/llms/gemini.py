"""Google's Gemini (`generateContent`), or any endpoint with the same.

The answer is asked for as JSON by a schema (`reply="json"`), or in words (`reply="text"`); what comes in the other form is understood
too. A prompt or an answer that is blocked is no answer. Tried again as `rag/http_json.py` says.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from ..endpoint_llm import EndpointLLM, Request
from ..errors import ModelError, ModelRefusedError
from ..http_json import Clock, EndpointLimits, JsonEndpoint, Sleep, checked_url, key_of
from ..http_retry import Attempts
from ..llm import Completion
from ..prompt import Prompt
from ..replies import answer_in, text_of, tokens_in

_SCHEMA: Final = {
    "type": "OBJECT",
    "properties": {
        "answer": {"type": "STRING", "nullable": True},
        "sources": {"type": "ARRAY", "items": {"type": "INTEGER"}},
    },
    "required": ["answer", "sources"],
}
_MODEL: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
"""A model's name is a part of the URL: nothing else may get into it."""


class Gemini(EndpointLLM):
    """`url`: up to and with `/v1beta`. `api_key_env`: name of the environment variable with the key; "" where none is needed.

    Raises PartError when the variable is not set.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str = "https://generativelanguage.googleapis.com/v1beta",
        api_key_env: str = "GEMINI_API_KEY",
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
        if not _MODEL.fullmatch(model):
            raise ValueError(f"model must be a name such as gemini-2.0-flash, got {model!r}")
        attempts = Attempts(attempts_max, pause_ms, pause_ms_max)
        key = key_of("llm gemini", api_key_env)
        url = checked_url(url) + "/models"
        endpoint = JsonEndpoint(
            url, key, timeout_ms, attempts, sleep, key_header="x-goog-api-key", limits=limits, clock=clock
        )
        config: dict[str, Any] = {"temperature": temperature, "maxOutputTokens": answer_tokens_max}
        if reply == "json":
            config |= {"responseMimeType": "application/json", "responseSchema": _SCHEMA}
        super().__init__(endpoint, model, reply, config)

    def request(self, prompt: Prompt, model: str, *, stream: bool) -> Request:
        if not _MODEL.fullmatch(model):
            raise ModelRefusedError(f"{model[:100]!r} is no name of a model")
        system, *messages = prompt.messages(as_json=self._json)
        body = {
            "systemInstruction": {"parts": [{"text": system["content"]}]},
            "contents": [{"role": "user", "parts": [{"text": one["content"]}]} for one in messages],
            "generationConfig": self._body,
        }
        return Request(body, f"/{model}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}")

    def completion(self, reply: Any, prompt: Prompt, model: str) -> Completion:
        return _completion(reply, prompt, model)

    def assembly(self) -> _Assembly:
        return _Assembly()


class _Assembly:
    """Each event is a whole reply with the next parts of the text; the last says why it ends, or that all is blocked."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._reply: dict[str, Any] = {}
        self._is_whole = False

    def add(self, event: Any) -> str:
        for name in ("promptFeedback", "usageMetadata", "modelVersion"):
            self._reply |= {name: event[name]} if event.get(name) else {}
        self._is_whole |= bool((event.get("promptFeedback") or {}).get("blockReason"))
        for candidate in (event.get("candidates") or [])[:1]:
            self._is_whole |= bool(candidate.get("finishReason"))
            self._said.append(text_of((candidate.get("content") or {}).get("parts")))
            return self._said[-1]
        return ""

    def reply(self) -> Any:
        if not self._is_whole:
            return None
        return self._reply | {"candidates": [{"content": {"parts": [{"text": "".join(self._said)}]}}]}


def _completion(reply: Any, prompt: Prompt, model: str) -> Completion:
    if not isinstance(reply, dict):
        raise ModelError(f"the endpoint's reply is no object: {str(reply)[:100]}")
    candidates, feedback = reply.get("candidates"), reply.get("promptFeedback")
    blocked = isinstance(feedback, dict) and bool(feedback.get("blockReason"))
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    if not isinstance(first, dict) and not blocked:
        raise ModelError(f"the endpoint's reply has no candidates: {str(reply)[:200]}")
    content = first.get("content") if isinstance(first, dict) else None
    text, numbers = answer_in(text_of(content.get("parts") if isinstance(content, dict) else None), prompt)
    named = reply.get("modelVersion")
    tokens = tokens_in(reply.get("usageMetadata"), "promptTokenCount", "candidatesTokenCount")
    return Completion(text, numbers, tokens, named if isinstance(named, str) and named else model)
