"""The routes as an ASGI app: whoever asks is checked, counted and limited, and every error becomes an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as Served

from ..metrics import CONTENT_TYPE
from . import chat, documents, pathway, questions
from .door import Door
from .limits import Places, Rates, Tokens
from .openapi import openapi
from .replies import HttpError, error_reply, reply
from .route import FLAG, TEXT, Route, fields
from .settings import GatewaySettings

METHODS: Final = "GET, POST, PUT, DELETE"


async def health(door: Door, request: Request) -> Response:
    """200 as long as requests are answered; whether the index of this process is ready is told, and no reason to restart."""
    return reply({"status": "ok", "index_ready": door.has_index and door.parts.view.is_ready})


async def description(door: Door, request: Request) -> Response:
    return reply(openapi(routes()))


async def metrics(door: Door, request: Request) -> Response:
    return Response(door.exposition(), headers={"content-type": CONTENT_TYPE})


def routes() -> tuple[Route, ...]:
    """All there are."""
    own = (
        Route(
            "GET",
            "/health",
            health,
            "Whether the gateway answers",
            "gateway",
            reply=fields(status=TEXT, index_ready=FLAG),
            is_open=True,
        ),
        Route("GET", "/openapi.json", description, "This description", "gateway", is_open=True),
        Route("GET", "/metrics", metrics, "What it does, for Prometheus", "gateway", reply=TEXT, kind="text/plain"),
    )
    return (*questions.ROUTES, *documents.ROUTES, *pathway.ROUTES, *chat.ROUTES, *own)


class Web:
    """`app` is what a server serves. `clock`: seconds, for rates."""

    def __init__(self, door: Door, clock: Callable[[], float] = time.monotonic) -> None:
        settings = door.settings
        self._door = door
        self._settings = settings
        self._clock = clock
        self._instrument = door.instrument
        self._tokens = Tokens(settings.tokens)
        self._rates = Rates(settings.requests_per_minute_max, settings.burst_requests_max, clock)
        self._requests = Places(settings.concurrency_max, "requests (concurrency_max)")
        self._streams = Places(settings.streams_max, "streams (streams_max)")
        served = [Served(one.path, self._endpoint(one), methods=[one.method]) for one in _by_place(routes())]
        self.app = Starlette(routes=served, exception_handlers={HTTPException: self._no_such_route})

    def _endpoint(self, route: Route) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            begun_s = self._clock()
            try:
                response = await self._answered(route, request)
            except Exception as error:  # noqa: BLE001 - every error becomes an answer
                response = error_reply(error, getattr(request.state, "query", None))
                if isinstance(error, TimeoutError):
                    self._instrument.count("gateway_timeouts", route=route.place)
            self._instrument.observe("gateway_request_seconds", self._clock() - begun_s, route=route.place)
            return self._counted(route.place, self._with_headers(request, response))

        return serve

    def _counted(self, place: str, response: Response) -> Response:
        self._instrument.count("gateway_requests", route=place, status=str(response.status_code))
        return response

    async def _answered(self, route: Route, request: Request) -> Response:
        """A place is held until the response has ended, also of a stream."""
        _check_host(request, self._settings)
        if not route.is_open:
            self._rates.take(self._tokens.who(request.headers.get("authorization")))
        place = (self._streams if route.streams else self._requests).place()
        place.__enter__()
        try:
            async with asyncio.timeout(self._settings.timeout_ms / 1000):
                response = await route.handle(self._door, request)
        except BaseException:
            place.__exit__(None, None, None)
            raise
        if not isinstance(response, StreamingResponse):
            place.__exit__(None, None, None)
            return response
        response.body_iterator = _held(response.body_iterator, place)
        return response

    async def _no_such_route(self, request: Request, error: Exception) -> Response:
        if request.method == "OPTIONS":  # a browser asks whether its page may ask
            return self._with_headers(request, Response(status_code=204))
        if isinstance(error, HTTPException) and error.status_code == 405:
            wrong = HttpError(405, "bad_request", f"{request.url.path[:60]} has no {request.method}")
        else:
            message = f"there is no {request.url.path[:60]!r}; GET /openapi.json describes what there is"
            wrong = HttpError(404, "not_found", message)
        return self._counted("none", self._with_headers(request, error_reply(wrong)))

    def _with_headers(self, request: Request, response: Response) -> Response:
        response.headers.setdefault("cache-control", "no-store")
        response.headers["x-content-type-options"] = "nosniff"
        origin = request.headers.get("origin")
        if origin and origin in self._settings.cors_origins:
            response.headers["access-control-allow-origin"] = origin
            response.headers["vary"] = "origin"
            if request.method == "OPTIONS":
                response.headers["access-control-allow-methods"] = METHODS
                response.headers["access-control-allow-headers"] = "authorization, content-type"
                response.headers["access-control-max-age"] = "600"
        return response


async def _held(pieces: Any, place: Any) -> Any:
    try:
        async for piece in pieces:
            yield piece
    finally:
        place.__exit__(None, None, None)
        await pieces.aclose()


def _by_place(described: Sequence[Route]) -> list[Route]:
    """Fixed paths before those with a part that may be anything."""
    return sorted(described, key=lambda one: "{" in one.path)


def _check_host(request: Request, settings: GatewaySettings) -> None:
    """Without tokens a page in a browser on this machine must not reach us under a name of its own (DNS rebinding).

    Raises HttpError 421.
    """
    if settings.tokens:
        return
    host = request.headers.get("host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name not in {"127.0.0.1", "localhost", "[::1]", settings.host}:
        raise HttpError(
            421,
            "bad_request",
            f"host {host[:60]!r}: without tokens this gateway only answers to localhost",
            param="host",
        )
