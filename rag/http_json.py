"""One HTTP endpoint that takes JSON and gives JSON, or events of JSON: a language model's, a reranker's. Tried again where that may help.

Tried again, with growing pauses or as `Retry-After` says: 408, 425, 429, 5xx, no connection, no answer in time. A stream of events is
not tried again once the first has come. The key travels as a bearer (or in a header of its own) and is shown nowhere. What an
endpoint says is limited in bytes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

from .document import digest
from .endpoint_gate import Clock, EndpointCounts, EndpointLimits, Sleep, gate_of
from .errors import (
    CircuitOpenError,
    ModelError,
    ModelRefusedError,
    ModelUnavailableError,
    PartError,
    RateLimitedError,
)
from .http_retry import Attempts, retry_after_ms
from .parts import extra
from .server_events import ServerEvents

__all__ = ["Clock", "EndpointLimits", "JsonEndpoint", "Sleep", "checked_url", "key_of"]

_REPLY_BYTES_MAX: Final = 4 << 20
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_DONE: Final = "[DONE]"
"""OpenAI's last event."""


class _Said(NamedTuple):
    """Status (0: no answer), how long the endpoint asks to wait, and the body (or what went wrong)."""

    status: int
    wait_ms: int | None
    text: bytes


@dataclass(slots=True)
class _Attempt:
    said: _Said | None = None


class JsonEndpoint:
    """`url`: the whole of it. `key`: "" where none is needed. `key_header`: where it goes, if not as a bearer.

    `limits`: as `EndpointLimits`, or a mapping of its names. `clock`: seconds, for these.
    """

    def __init__(
        self,
        url: str,
        key: str,
        timeout_ms: int,
        attempts: Attempts,
        sleep: Sleep = asyncio.sleep,
        *,
        key_header: str = "",
        headers: Mapping[str, str] = MappingProxyType({}),
        limits: Mapping[str, Any] | EndpointLimits | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.url = url
        self.counts = EndpointCounts()
        self._key = key
        self._gate = gate_of((url, digest(key)), EndpointLimits.of(limits), clock, sleep)
        self._headers = {"content-type": "application/json", **headers}
        if key:
            self._headers |= {key_header: key} if key_header else {"authorization": f"Bearer {key}"}
        self._timeout_s = timeout_ms / 1000
        self._attempts = attempts
        self._sleep = sleep
        self._client: Any = None

    def __repr__(self) -> str:
        return f"JsonEndpoint({self.url!r})"

    async def post(self, body: dict[str, Any], path: str = "") -> Any:
        """The reply to this body. `path`: behind the url. Raises ModelUnavailableError, ModelRefusedError, ModelError."""
        sent = orjson.dumps(body)
        for pause_ms in self._attempts.pauses_ms():
            async with self._attempt(sent) as attempt:
                attempt.said = said = await self._post(self.url + path, sent)
            if said.status == 200:
                return _json_of(said.text)
            await self._failed(said, pause_ms)
        raise AssertionError("the last attempt has no pause")

    def used(self, body: dict[str, Any], tokens: int) -> None:
        """For the limit of tokens: what the endpoint says that this request has cost. 0: it does not say."""
        if self._gate.limits.tokens_per_minute:
            self._gate.used(len(orjson.dumps(body)), tokens)

    async def events(self, body: dict[str, Any], path: str = "") -> AsyncGenerator[Any]:
        """What server-sent events hold, one by one, each within the timeout. Raises as `post`."""
        httpx, sent = extra("httpx2"), orjson.dumps(body)
        for pause_ms in self._attempts.pauses_ms():
            count = 0
            async with self._attempt(sent) as attempt:
                try:
                    async with self._request(self.url + path, sent) as response:
                        if response.status_code == 200:
                            async for event in _events_of(response):
                                count += 1
                                yield self._checked(event)
                            attempt.said = _Said(200, None, b"")
                            return
                        attempt.said = await _said_in(response)
                except httpx.HTTPError as error:
                    attempt.said = _Said(0, None, f"{type(error).__name__}: {error}".encode())
                    if count:
                        raise ModelUnavailableError(
                            f"{self.url}: the stream broke off after {count} events ({attempt.said.text.decode()})"
                        ) from error
            if attempt.said is not None:
                await self._failed(attempt.said, pause_ms)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _post(self, url: str, body: bytes) -> _Said:
        httpx = extra("httpx2")
        try:
            async with asyncio.timeout(self._timeout_s), self._request(url, body) as response:
                return await _said_in(response)
        except TimeoutError:
            return _Said(0, None, f"no answer within {self._timeout_s:g} s".encode())
        except httpx.HTTPError as error:
            return _Said(0, None, f"{type(error).__name__}: {error}".encode())

    @asynccontextmanager
    async def _attempt(self, sent: bytes) -> AsyncIterator[_Attempt]:
        """Through the gate, and out of it with what was said; nothing, when whoever asked has gone."""
        try:
            ticket, waited_ms = await self._gate.enter(self.url, len(sent))
        except CircuitOpenError:
            self._count(refused_by_circuit=1)
            raise
        except RateLimitedError:
            self._count(refused_by_rate_limit=1)
            raise
        attempt = _Attempt()
        try:
            yield attempt
        finally:
            said = attempt.said
            ok = None if said is None else _is_well(said.status)
            opened = self._gate.leave(ticket, ok, "" if said is None else self._told(said))
            self._count(attempts=1, attempts_failed=ok is False, waited_ms=round(waited_ms), circuit_opened=opened)

    def _count(self, **more: int) -> None:
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + more[name] for name in more})

    def _told(self, said: _Said) -> str:
        return f"status {said.status}: {self._shown(said.text)}" if said.status else said.text.decode()

    def _request(self, url: str, body: bytes) -> Any:
        if self._client is None:
            self._client = extra("httpx2").AsyncClient(timeout=self._timeout_s, follow_redirects=False)
        return self._client.stream("POST", url, content=body, headers=self._headers)

    async def _failed(self, said: _Said, pause_ms: int | None) -> None:
        """Pauses before the next attempt, or raises what has come of it."""
        told = self._told(said)
        if said.status and said.status not in _RETRIED:
            raise ModelRefusedError(f"{self.url} answers with {told}")
        if pause_ms is None or (said.wait_ms or 0) > self._attempts.pause_ms_max:
            raise ModelUnavailableError(
                f"{self.url} gave no answer in {self._attempts.count} attempts at most ({told})"
            )
        await self._sleep((pause_ms if said.wait_ms is None else said.wait_ms) / 1000)

    def _checked(self, event: Any) -> Any:
        """All providers say in the same way what went wrong when they had begun."""
        if isinstance(event, dict) and event.get("error"):
            told = self._shown(orjson.dumps(event["error"]))
            raise ModelUnavailableError(f"{self.url}: the stream broke off with an error: {told}")
        return event

    def _shown(self, text: bytes) -> str:
        """The start of a body, without the key in case it is sent back."""
        shown = text[:300].decode("utf-8", "replace")
        return shown.replace(self._key, "***") if self._key else shown


def _is_well(status: int) -> bool | None:
    """Whether this speaks for the endpoint's health. One that asks to be asked less is neither well nor ill."""
    if status in {425, 429}:
        return None
    return status not in _RETRIED and status != 0


def key_of(part: str, variable: str) -> str:
    """The key in an environment variable; "" where no variable is named. Raises PartError where it is not set."""
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise PartError(f"{part}: the environment variable {variable} is not set (api_key_env: '' for no key)")
    return key


def checked_url(url: str) -> str:
    """Without a slash at its end. Raises ValueError."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("url must begin with http:// or https://")
    return url.rstrip("/")


async def _chunks(response: Any) -> AsyncIterator[bytes]:
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _REPLY_BYTES_MAX:
            raise ModelError(f"the endpoint's reply has more than {_REPLY_BYTES_MAX} bytes")
        yield part


async def _said_in(response: Any) -> _Said:
    text = b"".join([part async for part in _chunks(response)])
    return _Said(response.status_code, retry_after_ms(response.headers), text)


async def _events_of(response: Any) -> AsyncIterator[Any]:
    events = ServerEvents()
    async for part in _chunks(response):
        for data in events.feed(part):
            if data.strip() == _DONE:
                return
            yield _json_of(data.encode())


def _json_of(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ModelError(f"the endpoint's reply is not JSON ({error}): {text[:100]!r}") from None
