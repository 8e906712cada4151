"""OpenAI's chat completions as many endpoints have them: what a body asks for, what a reply means, how chunks make up a reply."""

from __future__ import annotations

from typing import Any, Final

from .document import Tokens
from .errors import ModelError
from .llm import Completion
from .prompt import Prompt
from .replies import ANSWER_SCHEMA, answer_in, tokens_in

_ODDS_TOKENS: Final = 20
"""Alternatives of the first token that are asked for: the most that OpenAI gives."""
_SCHEMA: Final = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "strict": True, "schema": ANSWER_SCHEMA},
}
STREAM: Final = {"stream": True, "stream_options": {"include_usage": True}}


def chat_body(prompt: Prompt, *, as_json: bool) -> dict[str, Any]:
    """JSON by a schema; in words, with the log-probabilities of the first token, where the odds are wanted."""
    form = as_json and not prompt.odds
    body: dict[str, Any] = {"messages": prompt.messages(as_json=form)}
    if form:
        body["response_format"] = _SCHEMA
    if prompt.odds:
        body |= {"logprobs": True, "top_logprobs": _ODDS_TOKENS}
    return body


class ChatChunks:
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
            told = {name: choice[name] for name in ("logprobs", "finish_reason") if choice.get(name)}
            self._choice = told | self._choice
            self._content.append(delta.get("content") or "")
            return self._content[-1]
        return ""

    def reply(self) -> Any:
        if "finish_reason" not in self._choice:
            return None
        message = {"content": "".join(self._content), "refusal": self._refusal}
        return self._whole | {"choices": [self._choice | {"message": message}]}


def chat_completion(reply: Any, prompt: Prompt, model: str) -> Completion:
    """Raises ModelError for a reply of another shape."""
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
