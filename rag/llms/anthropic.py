"""Anthropic's messages, or any endpoint with the same.

The answer is asked for as the input of a tool by a schema (`reply="json"`), which the model is told to call; `reply="text"` asks in
words. A model that answers in words all the same is understood too, and a refusal (`stop_reason`) is no answer. Tried again as
`rag/http_json.py` says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson

from ..endpoint_llm import EndpointLLM, Request
from ..errors import ModelError
from ..http_json import Clock, EndpointLimits, JsonEndpoint, Sleep, checked_url, key_of
from ..http_retry import Attempts
from ..llm import Completion
from ..prompt import Prompt
from ..replies import ANSWER_SCHEMA, answer_in, text_of, tokens_in

_TOOL: Final = {"name": "answer", "description": "Gives the answer.", "input_schema": ANSWER_SCHEMA}


class Anthropic(EndpointLLM):
    """`url`: up to and with `/v1`. `api_key_env`: name of the environment variable with the key; "" where none is needed.

    Raises PartError when the variable is not set.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str = "https://api.anthropic.com/v1",
        api_key_env: str = "ANTHROPIC_API_KEY",
        api_version: str = "2023-06-01",
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
        endpoint = JsonEndpoint(
            checked_url(url) + "/messages",
            key_of("llm anthropic", api_key_env),
            timeout_ms,
            Attempts(attempts_max, pause_ms, pause_ms_max),
            sleep,
            key_header="x-api-key",
            headers={"anthropic-version": api_version},
            limits=limits,
            clock=clock,
        )
        super().__init__(endpoint, model, reply, {"temperature": temperature, "max_tokens": answer_tokens_max})

    def request(self, prompt: Prompt, model: str, *, stream: bool) -> Request:
        system, *messages = prompt.messages(as_json=self._json)
        body: dict[str, Any] = {"model": model, "system": system["content"], "messages": messages}
        body |= self._body
        if self._json:
            body |= {"tools": [_TOOL], "tool_choice": {"type": "tool", "name": "answer"}}
        return Request(body | ({"stream": True} if stream else {}))

    def completion(self, reply: Any, prompt: Prompt, model: str) -> Completion:
        return _completion(reply, prompt, model)

    def assembly(self) -> _Assembly:
        return _Assembly(words=not self._json)


class _Assembly:
    """Blocks by their number, each in deltas. `words`: what is said beside the tool is the answer; else only its input is heard."""

    def __init__(self, *, words: bool) -> None:
        self._words = words
        self._reply: dict[str, Any] = {"usage": {}}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._is_whole = False

    def add(self, event: Any) -> str:
        kind = event["type"]
        if kind == "message_start":
            self._told(event["message"])
        elif kind == "message_delta":
            self._told(event | event["delta"])
        elif kind == "content_block_start":
            self._blocks[event["index"]] = {"type": event["content_block"]["type"], "text": ""}
        elif kind == "content_block_delta":
            return self._delta(self._blocks[event["index"]], event["delta"])
        self._is_whole |= kind == "message_stop"
        return ""

    def _told(self, told: dict[str, Any]) -> None:
        self._reply |= {name: told[name] for name in ("model", "stop_reason") if told.get(name)}
        self._reply["usage"] |= told.get("usage") or {}

    def _delta(self, block: dict[str, Any], delta: dict[str, Any]) -> str:
        said = str(delta.get("text") or delta.get("partial_json") or "")
        block["text"] += said
        return said if self._words or block["type"] == "tool_use" else ""

    def reply(self) -> Any:
        if not self._is_whole:
            return None
        blocks = [self._blocks[index] for index in sorted(self._blocks)]
        return self._reply | {"content": [_with_input(one) if one["type"] == "tool_use" else one for one in blocks]}


def _with_input(block: dict[str, Any]) -> dict[str, Any]:
    try:
        return block | {"input": orjson.loads(block["text"] or "{}")}
    except orjson.JSONDecodeError as error:
        raise ModelError(f"the input of the tool is not JSON ({error}): {block['text'][:100]!r}") from None


def _completion(reply: Any, prompt: Prompt, model: str) -> Completion:
    content = reply.get("content") if isinstance(reply, dict) else None
    if not isinstance(content, list):
        raise ModelError(f"the endpoint's reply has no content: {str(reply)[:200]}")
    refused = reply.get("stop_reason") == "refusal"
    text, numbers = (None, ()) if refused else answer_in(_said(content), prompt)
    named = reply.get("model")
    tokens = tokens_in(reply.get("usage"), "input_tokens", "output_tokens")
    return Completion(text, numbers, tokens, named if isinstance(named, str) and named else model)


def _said(content: list[Any]) -> str:
    """What the tool was called with, as JSON; else the words."""
    called = [block.get("input") for block in content if isinstance(block, dict) and block.get("type") == "tool_use"]
    return orjson.dumps(called[0]).decode() if called else text_of(content)
