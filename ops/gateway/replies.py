"""What goes wrong with a request, as its answer: one shape for all routes, that of OpenAI's errors.

    {"error": {"message", "type", "param", "code", "query"}}

`message` names the value, the place and the next step; `type` is for programs; `param` the field; `query` the question's id, where
there is one. Nothing of ours (a stack, a path) is in it: what was not expected is logged, and answered 500 with that word.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Final

import orjson
from starlette.responses import Response

from ...rag.errors import (
    AnswerError,
    BusyError,
    FilterError,
    MessageError,
    ModelRefusedError,
    ModelUnavailableError,
    NotFreshError,
    PartError,
    RagError,
)
from ...topics.errors import BrokerUnavailableError

_log = logging.getLogger("millstream.gateway")

_FIELD: Final = re.compile(r"at \$\.?([\w.\[\]]*)")

KINDS: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (FilterError, 400, "bad_filter"),
    (MessageError, 400, "bad_request"),
    (BusyError, 503, "busy"),
    (NotFreshError, 503, "not_fresh"),
    (ModelRefusedError, 502, "model_refused"),
    (ModelUnavailableError, 503, "model_unavailable"),
    (PartError, 501, "not_here"),
    (AnswerError, 502, "answer_failed"),
    (RagError, 502, "answer_failed"),
    (BrokerUnavailableError, 503, "broker_unavailable"),
)
"""The first that fits."""


_TIMED_OUT: Final = (
    "there was no answer in time; when it comes, GET /v1/answers/<query> has that of a question; or raise timeout_ms"
)


class HttpError(Exception):
    """An answer that is an error."""

    def __init__(
        self, status: int, kind: str, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.headers = headers or {}


def reply(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON; bytes are JSON already."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return Response(content, status, headers, media_type="application/json")


def error_reply(error: Exception, query: str | None = None) -> Response:
    told = as_http(error)
    body = {"message": str(told), "type": told.kind, "param": told.param, "code": None, "query": query}
    return reply({"error": body}, told.status, told.headers)


def as_http(error: Exception) -> HttpError:
    if isinstance(error, HttpError):
        return error
    if isinstance(error, TimeoutError):
        return HttpError(504, "timeout", str(error) or _TIMED_OUT)
    for kind, status, name in KINDS:
        if isinstance(error, kind):
            place = _FIELD.search(str(error))
            retry = {"retry-after": "1"} if status == 503 else {}
            return HttpError(status, name, str(error), param=place[1] if place else None, headers=retry)
    _log.error("a request failed", exc_info=error)
    return HttpError(500, "fault", "this was not expected; the gateway's log says more")
