"""What the adapters of model endpoints are alike in: how they ask, are heard, name themselves and end.

An adapter says what is sent (`request`), what a reply means (`completion`), and how the events of a stream make up the same reply
(an `Assembly`), so that an answer is understood in one place whichever way it came.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol

from .answer_pieces import AnswerPieces
from .endpoint_gate import EndpointCounts
from .errors import ModelError, ModelUnavailableError
from .http_json import JsonEndpoint
from .llm import Completion
from .prompt import VERSION, Prompt


class Request(NamedTuple):
    """`path`: behind the endpoint's url."""

    body: dict[str, Any]
    path: str = ""


class Assembly(Protocol):
    """The events of one stream put together."""

    def add(self, event: Any) -> str:
        """What this event adds to what is said. May raise KeyError, IndexError, TypeError, AttributeError for one of another shape."""
        ...

    def reply(self) -> Any:
        """As an answer in one piece would be; None while the end has not come."""
        ...


class EndpointLLM:
    """`reply`: "json" or "text", what is asked for. `body`: what is sent with every request.

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

    @property
    def counts(self) -> EndpointCounts:
        return self._endpoint.counts

    def fingerprint(self) -> str:
        told = f"{self._endpoint.url} {self._model} {self._json} {self._body}"
        return f"{self._name.lower()}/1 {told} prompt {VERSION}"

    def request(self, prompt: Prompt, model: str, *, stream: bool) -> Request:
        raise NotImplementedError

    def completion(self, reply: Any, prompt: Prompt, model: str) -> Completion:
        """Raises ModelError for a reply of another shape."""
        raise NotImplementedError

    def assembly(self) -> Assembly:
        raise NotImplementedError

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        named = model or self._model
        request = self.request(prompt, named, stream=False)
        completion = self.completion(await self._endpoint.post(request.body, request.path), prompt, named)
        self._account(request, completion)
        return completion

    async def stream(self, prompt: Prompt, model: str | None = None) -> AsyncGenerator[str | Completion]:
        named = model or self._model
        request = self.request(prompt, named, stream=True)
        assembly, pieces = self.assembly(), AnswerPieces(prompt)
        async with aclosing(self._endpoint.events(request.body, request.path)) as events:
            async for event in events:
                if piece := pieces.add(_added(assembly, event)):
                    yield piece
        reply = assembly.reply()
        if reply is None:
            raise ModelUnavailableError(f"{self._endpoint.url}: the stream ended before the answer did")
        completion = self.completion(reply, prompt, named)
        self._account(request, completion)
        if rest := pieces.rest(completion.text):
            yield rest
        yield completion

    def _account(self, request: Request, completion: Completion) -> None:
        self._endpoint.used(request.body, completion.tokens.prompt + completion.tokens.completion)

    async def close(self) -> None:
        await self._endpoint.close()


def _added(assembly: Assembly, event: Any) -> str:
    try:
        return assembly.add(event)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ModelError(f"an event of the endpoint has another shape: {str(event)[:200]}") from None
