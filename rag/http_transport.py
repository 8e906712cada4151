"""Reaches a document pipeline through its gateway: the records of `messages.py` as bodies of HTTP.

    PUT, DELETE, GET  /v1/documents?uri=     POST /v1/answers     POST /v1/standing (server-sent events)     GET /v1/statistics

A gateway's error keeps its class: what is wrong with a filter is a FilterError here too.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final

import orjson

from ..topics.errors import BrokerUnavailableError
from .catalogue_values import DocumentsPage, DocumentStatistics, Listed
from .errors import AnswerError, BusyError, FilterError, MessageError, NotFreshError, RagError
from .filters import FilterText
from .parts import extra
from .read_back import read_listed, read_statistics

TOKEN_VARIABLE: Final = "MILLSTREAM_TOKEN"  # noqa: S105 - the variable's name
_REPLY_BYTES_MAX: Final = 64 << 20
_LINE_BYTES_MAX: Final = 16 << 20
_KINDS: Final[Mapping[str, type[RagError]]] = {
    "bad_filter": FilterError,
    "bad_request": MessageError,
    "not_found": MessageError,
    "busy": BusyError,
    "rate_limited": BusyError,
    "not_fresh": NotFreshError,
}


class HttpTransport:
    """`url`: of the gateway, as in "http://127.0.0.1:8080". `token`: of who asks; default: the variable MILLSTREAM_TOKEN."""

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        token = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._client: Any = None

    def __repr__(self) -> str:
        return f"HttpTransport({self.url!r})"

    async def open(self) -> None:
        """Raises PartError without the extra `rag`; that the gateway is there is seen with the first request."""
        httpx = extra("httpx2")
        self._client = httpx.AsyncClient(headers=self._headers, timeout=self.timeout_s, follow_redirects=False)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def put(self, uri: str, value: bytes) -> bytes | None:
        status, body = await self._sent("PUT", "/v1/documents", value, uri=uri)
        told = _object(body).get("status")  # also with 422: it was read, and cannot be indexed
        return orjson.dumps(told if isinstance(told, dict) else self._good(status, body))

    async def delete(self, uri: str) -> None:
        self._good(*await self._sent("DELETE", "/v1/documents", uri=uri))

    async def ask(self, query_id: str, value: bytes, *, fresh: bool = False) -> bytes:
        body = orjson.loads(value)
        path = "/v1/retrievals" if body.get("strategy") == "retrieve" else "/v1/answers"
        status, reply = await self._sent("POST", path, orjson.dumps(body | {"id": query_id, "fresh": fresh}))
        self._good(status, reply)
        return reply

    async def stand(self, query_id: str, value: bytes) -> AsyncGenerator[bytes, None]:
        body = orjson.dumps(orjson.loads(value) | {"id": query_id})
        async with self._opened().stream(
            "POST", f"{self.url}/v1/standing", content=body, headers=_JSON, timeout=None
        ) as response:
            if response.status_code != 200:
                self._good(response.status_code, await _limited(response))
            async for event, data in events(response.aiter_bytes()):
                if event == "revision":
                    yield data

    async def end(self, query_id: str) -> None:
        self._good(*await self._sent("DELETE", "/v1/standing", id=query_id))

    async def document(self, uri: str) -> Listed | None:
        status, body = await self._sent("GET", "/v1/documents", uri=uri)
        return None if status == 404 else read_listed(self._good(status, body))

    async def documents(
        self, filter_text: FilterText | None = None, *, after: str = "", limit: int = 100
    ) -> DocumentsPage:
        wanted: dict[str, Any] = {"after": after, "limit": str(limit)}
        if filter_text is not None:
            wanted |= {"filter": filter_text} if isinstance(filter_text, str) else filter_text
        body = self._good(*await self._sent("GET", "/v1/documents", **wanted))
        listed = body.get("documents")
        found = tuple(read_listed(one) for one in listed) if isinstance(listed, list) else ()
        return DocumentsPage(found, body.get("next") or None)

    async def statistics(self) -> DocumentStatistics:
        return read_statistics(self._good(*await self._sent("GET", "/v1/statistics")))

    # Inside

    def _opened(self) -> Any:
        if self._client is None:
            raise RuntimeError("the client is not open; use it in 'async with'")
        return self._client

    async def _sent(self, method: str, path: str, content: bytes | None = None, **query: Any) -> tuple[int, bytes]:
        httpx, client = extra("httpx2"), self._opened()
        try:
            async with client.stream(
                method,
                f"{self.url}{path}",
                content=content,
                params=query or None,
                headers=_JSON if content is not None else None,
            ) as response:
                return response.status_code, await _limited(response)
        except httpx.TimeoutException as error:
            raise TimeoutError(f"{self.url}{path} gave no answer within {self.timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise BrokerUnavailableError(f"{self.url} cannot be reached: {error}; is the gateway running?") from error

    def _good(self, status: int, body: bytes) -> dict[str, Any]:
        """The body of a reply that is none of an error; else raises what the error says it is."""
        told = _object(body)
        if status < 300:
            return told
        error = told.get("error")
        error = error if isinstance(error, dict) else {}
        message = str(error.get("message") or f"status {status}: {body[:200].decode('utf-8', 'replace')}")
        if error.get("type") == "timeout":
            raise TimeoutError(message)
        raise _KINDS.get(str(error.get("type")), AnswerError)(message)


_JSON: Final = {"content-type": "application/json"}


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


async def _limited(response: Any) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > _REPLY_BYTES_MAX:
            raise MessageError(f"the gateway's reply has more than {_REPLY_BYTES_MAX} bytes")
    return bytes(body)


async def events(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, bytes]]:
    """Server-sent events (HTML standard, 9.2): name and data of each. Raises MessageError for a line that does not end."""
    rest, name, data = b"", "message", list[bytes]()
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _LINE_BYTES_MAX:
            raise MessageError(f"a line of an event has more than {_LINE_BYTES_MAX} bytes")
        for line in (one.removesuffix(b"\r") for one in lines):
            field, _, value = line.partition(b":")
            if not line:
                if data:
                    yield name, b"\n".join(data)
                name, data = "message", []
            elif field == b"event":
                name = value.removeprefix(b" ").decode("utf-8", "replace")
            elif field == b"data":
                data.append(value.removeprefix(b" "))
