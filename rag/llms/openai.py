"""Any endpoint with OpenAI's chat completions: OpenAI, vLLM, Ollama, llama.cpp's server, gateways.

The answer is asked for as JSON by a schema (`reply="json"`), where `null` says that the documents do not say; endpoints that
know no schemas are asked in words (`reply="text"`). A model that answers a JSON request with plain text is understood too.
Tried again, with growing pauses or as `Retry-After` says: 408, 425, 429, 5xx, no connection, no answer in time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import orjson

from ..document import Tokens
from ..errors import ModelError, ModelRefusedError, ModelUnavailableError, PartError
from ..http_retry import Attempts, retry_after_ms
from ..llm import Completion
from ..parts import extra
from ..prompt import VERSION, Prompt, cited, is_no_answer

_REPLY_BYTES_MAX: Final = 4 << 20
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_SCHEMA: Final = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "answer": {"type": ["string", "null"]},
                "sources": {"type": "array", "items": {"type": "integer"}},
            },
            "required": ["answer", "sources"],
            "additionalProperties": False,
        },
    },
}


class Openai:
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
        temperature: float = 0.0,
        answer_tokens_max: int = 500,
        timeout_ms: int = 60_000,
        attempts_max: int = 4,
        pause_ms: int = 500,
        pause_ms_max: int = 20_000,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not url.startswith(("http://", "https://")) or reply not in {"json", "text"}:
            raise ValueError("url must begin with http:// or https://, and reply be json or text")
        self._key = _key(api_key_env)
        self._url = url.rstrip("/") + "/chat/completions"
        self._model = model
        self._json = reply == "json"
        self._body = {"temperature": temperature, "max_tokens": answer_tokens_max}
        self._timeout_s = timeout_ms / 1000
        self._attempts = Attempts(attempts_max, pause_ms, pause_ms_max)
        self._sleep = sleep
        self._client: Any = None

    def __repr__(self) -> str:
        return f"Openai(url={self._url!r}, model={self._model!r})"

    def fingerprint(self) -> str:
        return f"openai/1 {self._url} {self._model} {self._json} {self._body} prompt {VERSION}"

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        body: dict[str, Any] = {"model": model or self._model, "messages": prompt.messages(as_json=self._json)}
        body |= self._body
        if self._json:
            body["response_format"] = _SCHEMA
        reply = await self._reply(orjson.dumps(body))
        return _completion(reply, len(prompt.passages), model or self._model)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _reply(self, body: bytes) -> dict[str, Any]:
        told = ""
        for pause_ms in self._attempts.pauses_ms():
            status, wait_ms, text = await self._post(body)
            if status == 200:
                return _json_of(text)
            told = f"status {status}: {self._shown(text)}" if status else text.decode()
            if status and status not in _RETRIED:
                raise ModelRefusedError(f"{self._url} answers with {told}")
            if pause_ms is None or (wait_ms or 0) > self._attempts.pause_ms_max:
                break
            await self._sleep((pause_ms if wait_ms is None else wait_ms) / 1000)
        raise ModelUnavailableError(f"{self._url} gave no answer in {self._attempts.count} attempts at most ({told})")

    async def _post(self, body: bytes) -> tuple[int, int | None, bytes]:
        """Status (0: no answer), how long the endpoint asks to wait, and the body (or what went wrong)."""
        httpx = extra("httpx2")
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._timeout_s, follow_redirects=False)
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {self._key}"} if self._key else {})
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                text = await _limited(response)
                return response.status_code, retry_after_ms(response.headers), text
        except TimeoutError:
            return 0, None, f"no answer within {self._timeout_s:g} s".encode()
        except httpx.HTTPError as error:
            return 0, None, f"{type(error).__name__}: {error}".encode()

    def _shown(self, text: bytes) -> str:
        """The start of a body, without the key in case it is sent back."""
        shown = text[:300].decode("utf-8", "replace")
        return shown.replace(self._key, "***") if self._key else shown


def _key(variable: str) -> str:
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise PartError(f"llm openai: the environment variable {variable} is not set (api_key_env: '' for no key)")
    return key


async def _limited(response: Any) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _REPLY_BYTES_MAX:
            raise ModelError(f"the endpoint's reply has more than {_REPLY_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)


def _json_of(text: bytes) -> dict[str, Any]:
    try:
        reply = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ModelError(f"the endpoint's reply is not JSON ({error}): {text[:100]!r}") from None
    if not isinstance(reply, dict):
        raise ModelError(f"the endpoint's reply is no object: {text[:100]!r}")
    return reply


def _completion(reply: dict[str, Any], passages: int, model: str) -> Completion:
    try:
        message = reply["choices"][0]["message"]
        content = message.get("content") or ""
        refused = bool(message.get("refusal"))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ModelError(f"the endpoint's reply has no choices[0].message: {str(reply)[:200]}") from None
    if not isinstance(content, str):
        raise ModelError(f"the endpoint's answer is no text: {str(content)[:200]}")
    named = reply.get("model")
    text, numbers = (None, ()) if refused else _answer(content, passages)
    return Completion(text, numbers, _tokens(reply), named if isinstance(named, str) and named else model)


def _answer(content: str, passages: int) -> tuple[str | None, tuple[int, ...]]:
    """The answer (None: there is none), from JSON or, where it is none, from the text itself."""
    answer, listed = _from_json(content)
    if answer is None or is_no_answer(answer):
        return None, ()
    known = [number for number in listed if type(number) is int and 1 <= number <= passages]
    return answer, tuple(dict.fromkeys([*cited(answer, passages), *known]))


def _from_json(content: str) -> tuple[str | None, list[Any]]:
    start, end = content.find("{"), content.rfind("}")
    try:
        body = orjson.loads(content[start : end + 1])
    except orjson.JSONDecodeError:
        return content.strip(), []
    if not isinstance(body, dict) or "answer" not in body:
        return content.strip(), []
    answer, sources = body["answer"], body.get("sources")
    return (
        answer.strip() if isinstance(answer, str) else None if answer is None else str(answer),
        sources if isinstance(sources, list) else [],
    )


def _tokens(reply: dict[str, Any]) -> Tokens:
    usage = reply.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return Tokens(prompt if isinstance(prompt, int) else 0, completion if isinstance(completion, int) else 0)
