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
from typing import Any, Literal

from ..chat_completions import STREAM, ChatChunks, chat_body, chat_completion
from ..endpoint_llm import EndpointLLM, Request
from ..http_json import Clock, EndpointLimits, JsonEndpoint, Sleep, checked_url, key_of
from ..http_retry import Attempts
from ..llm import Completion
from ..prompt import Prompt


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
        body = {"model": model, **chat_body(prompt, as_json=self._json), **self._body}
        if prompt.forbid_no and self._forbid_with:
            word = prompt.no_answer.split()[0]
            body[self._forbid_with] = [word] if self._forbid_with == "bad_words" else [[word, False]]
        return Request(body | (STREAM if stream else {}))

    def completion(self, reply: Any, prompt: Prompt, model: str) -> Completion:
        return chat_completion(reply, prompt, model)

    def assembly(self) -> ChatChunks:
        return ChatChunks()
