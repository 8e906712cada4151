"""Any endpoint with OpenAI's chat completions: OpenAI, vLLM, Ollama, llama.cpp's server, gateways.

The answer is asked for as JSON by a schema (`reply="json"`), where `null` says that the documents do not say; endpoints that
know no schemas are asked in words (`reply="text"`). A model that answers a JSON request with plain text is understood too.
Where the odds of a refusal are wanted, the answer is asked for in words, with the log-probabilities of its first token
(`logprobs`). No endpoint agrees with another on how a word is forbidden: `forbid_with` names vLLM's way (`bad_words`) or that
of llama.cpp's server (`logit_bias` by word).
Tried again as `rag/http_json.py` says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from ..document import Tokens
from ..endpoint_llm import EndpointLLM, Request
from ..errors import ModelError
from ..http_json import Clock, EndpointLimits, JsonEndpoint, Sleep, checked_url, key_of
from ..http_retry import Attempts
from ..llm import Completion
from ..prompt import Prompt
from ..replies import ANSWER_SCHEMA, answer_in, tokens_in

_ODDS_TOKENS: Final = 20
"""Alternatives of the first token that are asked for: the most that OpenAI gives."""
_SCHEMA: Final = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "strict": True, "schema": ANSWER_SCHEMA},
}
_STREAM: Final = {"stream": True, "stream_options": {"include_usage": True}}


class Openai(EndpointLLM):
    """`url`: up to and with `/v1`. `api_key_env`: name of the environment variable with the key; "" where none is needed.

    Raises PartError when the variable is not set.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        reply: Literal["json", "text"] = "json",
        forbid_with: Literal["", "bad_words", "logit_bias"] = "",
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
        if forbid_with not in {"", "bad_words", "logit_bias"}:
            raise ValueError("forbid_with must be bad_words, logit_bias or nothing")
        attempts = Attempts(attempts_max, pause_ms, pause_ms_max)
        key = key_of("llm openai", api_key_env)
        endpoint = JsonEndpoint(
            checked_url(url) + "/chat/completions", key, timeout_ms, attempts, sleep, limits=limits, clock=clock
        )
        super().__init__(endpoint, model, reply, {"temperature": temperature, "max_tokens": answer_tokens_max})
        self._forbid_with = forbid_with

    @property
    def can_forbid(self) -> bool:
        return bool(self._forbid_with)

    def request(self, prompt: Prompt, model: str, *, stream: bool) -> Request:
        as_json = self._json and not prompt.odds
        body: dict[str, Any] = {"model": model, "messages": prompt.messages(as_json=as_json)}
        body |= self._body
        if as_json:
            body["response_format"] = _SCHEMA
        if prompt.odds:
            body |= {"logprobs": True, "top_logprobs": _ODDS_TOKENS}
        if prompt.forbid_no and self._forbid_with:
            word = prompt.no_answer.split()[0]
            body[self._forbid_with] = [word] if self._forbid_with == "bad_words" else [[word, False]]
        return Request(body | (_STREAM if stream else {}))

    def completion(self, reply: Any, prompt: Prompt, model: str) -> Completion:
        return _completion(reply, prompt, model)

    def assembly(self) -> _Assembly:
        return _Assembly()


class _Assembly:
    """The chunks of a stream: the counts of tokens stand in the last, which has no choices."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._refusal = ""
        self._choice: dict[str, Any] = {}
        self._whole: dict[str, Any] = {}

    def add(self, event: Any) -> str:
        self._whole |= {name: event[name] for name in ("model", "usage") if event.get(name)}
        for choice in (event.get("choices") or [])[:1]:
            delta = choice.get("delta") or {}
            self._refusal += delta.get("refusal") or ""
            self._choice = {
                name: choice[name] for name in ("logprobs", "finish_reason") if choice.get(name)
            } | self._choice
            self._content.append(delta.get("content") or "")
            return self._content[-1]
        return ""

    def reply(self) -> Any:
        if "finish_reason" not in self._choice:
            return None
        message = {"content": "".join(self._content), "refusal": self._refusal}
        return self._whole | {"choices": [self._choice | {"message": message}]}


def _completion(reply: Any, prompt: Prompt, model: str) -> Completion:
    if not isinstance(reply, dict):
        raise ModelError(f"the endpoint's reply is no object: {str(reply)[:100]}")
    try:
        message = reply["choices"][0]["message"]
        content = message.get("content") or ""
        refused = bool(message.get("refusal"))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ModelError(f"the endpoint's reply has no choices[0].message: {str(reply)[:200]}") from None
    if not isinstance(content, str):
        raise ModelError(f"the endpoint's answer is no text: {str(content)[:200]}")
    named = reply.get("model")
    text, numbers = (None, ()) if refused else answer_in(content, prompt)
    known = named if isinstance(named, str) and named else model
    return Completion(text, numbers, _tokens(reply), known, _first_token(reply["choices"][0]))


def _first_token(choice: dict[str, Any]) -> dict[str, float]:
    """Log-probabilities by token; none where the endpoint gives none, or gives them in a shape of its own."""
    try:
        listed = choice["logprobs"]["content"][0]["top_logprobs"]
        return {str(one["token"]): float(one["logprob"]) for one in listed}
    except (KeyError, IndexError, TypeError, ValueError):
        return {}


def _tokens(reply: dict[str, Any]) -> Tokens:
    return tokens_in(reply.get("usage"), "prompt_tokens", "completion_tokens")
