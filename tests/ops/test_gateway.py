"""The gateway over real sockets: what it answers, whom it answers, and what hostile requests get."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx
import orjson
import pytest

from millstream.ops.errors import SettingsError
from millstream.ops.gateway.door import Door
from millstream.ops.gateway.limits import Places, Rates, Tokens
from millstream.ops.gateway.replies import HttpError
from millstream.ops.gateway.server import GatewayServer
from millstream.ops.gateway.settings import GatewaySettings
from millstream.ops.gateway.web import routes
from millstream.ops.pipeline_yaml.build import pipeline_of
from millstream.ops.settings import RunSettings
from millstream.rag.document_topics import TOPICS, DocumentTopics
from millstream.rag.pipeline import document_pipeline
from millstream.rag.topics_transport import TopicsTransport
from millstream.topics.memory import MemoryBroker
from millstream.workers.app import App
from tests.polling import until
from tests.rag.served import gateway, running

SMALL = 20_000
TOKEN = "a-token-of-tests"


async def topics_of(broker: MemoryBroker, name: str = "shop") -> None:
    """A pipeline that nobody works on."""
    pipeline = document_pipeline(App(name))
    await broker.create_topics([pipeline.topic(topic).spec() for topic in TOPICS])


@pytest.fixture
async def url() -> AsyncIterator[str]:
    broker = MemoryBroker()
    settings = GatewaySettings(port=0, body_bytes_max=SMALL, timeout_ms=20_000)
    async with running(broker, "shop"), gateway(broker, "shop", settings) as address:
        yield address


@pytest.fixture
async def http(url: str) -> AsyncIterator[Any]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


async def raw(url: str, request: bytes) -> tuple[int, bytes]:
    """What a client that speaks no good HTTP gets; 0: a connection that is closed, perhaps with a word before."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    await writer.drain()
    try:
        answer = await reader.read()
    except ConnectionResetError:
        answer = b""
    writer.close()
    return (int(answer.split()[1]) if answer else 0), answer


def error_of(response: Any) -> tuple[int, str, str | None]:
    told = response.json()["error"]
    return response.status_code, told["type"], told["param"]


async def test_a_document_is_put_as_it_is_or_as_a_record(http: Any) -> None:
    """The body of any other type than JSON is the document."""
    put = await http.put(
        "/v1/documents/docs/lamp.md", content=b"# Lamps\n\nMade in Jena.", headers={"content-type": "text/markdown"}
    )
    assert (put.status_code, put.json()["status"]["state"], put.json()["uri"]) == (200, "indexed", "docs/lamp.md")
    record = {"text": "Made in Turin.", "content_type": "text/markdown", "metadata": {"lang": "en"}}
    assert (await http.put("/v1/documents?uri=clock.md", json=record)).json()["status"]["metadata"] == {"lang": "en"}
    found = await http.post("/v1/retrievals", json={"question": "Turin", "k": 1, "fresh": True})
    assert [one["uri"] for one in found.json()["sources"]] == ["clock.md"]
    quick = await http.put(
        "/v1/documents/quick.md?wait=false", content=b"Quick.", headers={"content-type": "text/markdown"}
    )
    assert (quick.status_code, quick.json()) == (202, {"uri": "quick.md"})
    assert (await http.delete("/v1/documents/docs/lamp.md")).json() == {"uri": "docs/lamp.md", "deleted": True}
    assert (await http.get("/v1/documents/docs/lamp.md")).status_code == 404


async def test_what_cannot_be_read_is_told_with_its_status(http: Any) -> None:
    put = await http.put("/v1/documents/x.pdf", content=b"%PDF-1.4 no", headers={"content-type": "application/pdf"})
    assert (put.status_code, put.json()["status"]["state"]) == (422, "failed")
    assert put.json()["error"]["message"] == put.json()["status"]["error"]


async def test_a_standing_question_is_a_stream_of_events(http: Any) -> None:
    await http.put("/v1/documents/lamp.md", json={"text": "The lamp is made in Jena.", "content_type": "text/markdown"})
    await http.post("/v1/retrievals", json={"question": "lamp", "fresh": True})
    asked = {"question": "Where is the lamp made?"}
    async with http.stream("POST", "/v1/standing", json=asked) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()
        assert await anext(lines) == "event: revision"
        assert orjson.loads((await anext(lines)).removeprefix("data: "))["answer"] == "The lamp is made in Jena. [1]"


# What is wrong is said, and nothing else is harmed

BAD_QUESTIONS: list[tuple[Any, str | None]] = [
    ({}, "question"),
    ({"question": ""}, "question"),
    ({"question": 7}, "question"),
    ({"question": "x" * 10_001}, "question"),
    ({"question": "x", "k": 0}, "k"),
    ({"question": "x", "k": 10**30}, "k"),
    ({"question": "x", "k": "5"}, "k"),
    ({"question": "x", "filter": "(("}, None),
    ({"question": "x", "filter": 5}, "filter"),
    ({"question": "x", "fliter": "a = 1"}, "fliter"),
    ({"question": "x", "strategy": "magic"}, "strategy"),
    ({"question": "x", "strategy": ["fixed"]}, "strategy"),
    ({"question": "x", "mode": "standing"}, "mode"),
    ({"question": "x", "id": ""}, "id"),
    ({"question": "x", "id": ["a"]}, "id"),
    ({"question": "x", "id": "x" * 201}, "id"),
    ({"question": "x", "fresh": 1}, "fresh"),
    ({"question": "x", "fresh_after": {"a": 1}}, "fresh_after"),
    ({"question": "x", "again": True}, "again"),
    ([], None),
    ("x", None),
]


async def test_a_bad_question_is_refused_naming_the_field(http: Any) -> None:
    for body, param in BAD_QUESTIONS:
        response = await http.post("/v1/answers", json=body)
        status, kind, named = error_of(response)
        assert (body, status, named) == (body, 400, param)
        assert kind in {"bad_request", "bad_filter"}
    assert (await http.get("/health")).status_code == 200


BAD_REQUESTS: list[tuple[str, str, dict[str, Any], int]] = [
    ("POST", "/v1/answers", {"content": b"{not json", "headers": {"content-type": "application/json"}}, 400),
    ("POST", "/v1/answers", {"content": b"[" * 15_000, "headers": {"content-type": "application/json"}}, 400),
    ("POST", "/v1/answers", {"content": b'{"question": "\xff"}', "headers": {"content-type": "application/json"}}, 400),
    (
        "POST",
        "/v1/answers",
        {"content": b'{"question": "\\ud800"}', "headers": {"content-type": "application/json"}},
        400,
    ),
    ("POST", "/v1/answers", {"content": b'{"question": "x"}', "headers": {"content-type": "text/plain"}}, 415),
    ("POST", "/v1/answers", {"data": {"question": "x"}}, 415),
    ("POST", "/v1/answers", {"json": {"question": "x" * SMALL}}, 413),
    ("GET", "/v1/answers", {}, 400),
    ("DELETE", "/v1/answers", {}, 405),
    ("GET", "/v1/answer", {}, 404),
    ("GET", "/../../etc/passwd", {}, 404),
    ("GET", "/v1/documents?limit=0", {}, 400),
    ("GET", "/v1/documents?limit=1e3", {}, 400),
    ("GET", "/v1/documents?limit=5&limit=6", {}, 400),
    ("GET", "/v1/documents?fliter=x", {}, 400),
    ("GET", "/v1/documents?filter=((", {}, 400),
    ("GET", "/v1/documents/no.md", {}, 404),
    ("PUT", "/v1/documents", {"json": {"text": "x"}}, 400),
    ("PUT", "/v1/documents/a.md", {"json": {"text": "x", "content": "eA=="}}, 400),
    ("PUT", "/v1/documents/a.md", {"json": {"text": "x", "uri": "b.md"}}, 400),
    ("PUT", "/v1/documents/a.md", {"json": {"text": "x", "metdata": {}}}, 400),
    ("PUT", "/v1/documents/a.md", {"json": {"content": "no base64!"}}, 400),
    ("PUT", "/v1/documents/a.md", {"json": {"text": "x", "metadata": {"a": "x" * 17_000}}}, 400),
    ("PUT", "/v1/documents/a.md", {"content": b"x" * (SMALL + 1)}, 413),
    ("PUT", "/v1/documents/a.md?wait=perhaps", {"content": b"x"}, 400),
    ("PUT", "/v1/documents/" + "x" * 4_097, {"content": b"x"}, 400),
    ("PUT", "/v1/documents/a%00b", {"content": b"x"}, 400),
    ("DELETE", "/v1/standing", {}, 400),
]


async def test_bad_requests_of_every_kind_get_an_answer_and_harm_nothing(http: Any) -> None:
    for method, path, options, status in BAD_REQUESTS:
        response = await http.request(method, path, **options)
        assert (method, path, response.status_code) == (method, path, status)
        assert response.json()["error"]["message"]
        assert "Traceback" not in response.text
    good = await http.put("/v1/documents/a.md", content=b"Fine.", headers={"content-type": "text/markdown"})
    assert good.status_code == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 300_000 + b"\r\n\r\n", 0),
        (b"POST /v1/answers HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (
            b"POST /v1/answers HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
            b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz",
            415,
        ),
        (b"GET /v1/documents HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 421),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    ],
)
async def test_what_is_no_good_http_is_refused(url: str, request_bytes: bytes, status: int) -> None:
    """The last but one: a page that had its own name point to this machine. The last: TLS."""
    assert (await raw(url, request_bytes))[0] in ({0, 400} if status == 0 else {status})
    assert (await raw(url, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))[0] == 200


# Whom it answers


async def test_tokens_are_wanted_where_there_are_some() -> None:
    broker = MemoryBroker()
    await topics_of(broker)
    settings = GatewaySettings(port=0, tokens=("other", TOKEN))
    async with gateway(broker, "shop", settings) as url:  # noqa: SIM117
        async with httpx.AsyncClient(base_url=url) as http:
            for wrong in ("", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN):
                response = await http.get("/v1/documents", headers={"authorization": wrong})
                assert (wrong, *error_of(response)[:2]) == (wrong, 401, "unauthorized")
                assert response.headers["www-authenticate"] == "Bearer"
            for right in (f"Bearer {TOKEN}", f"bearer   {TOKEN}", "Bearer other"):
                assert (await http.get("/v1/documents", headers={"authorization": right})).status_code == 200
            assert (await http.get("/health")).status_code == 200


def test_tokens_are_compared_as_a_whole_and_shown_nowhere() -> None:
    settings = GatewaySettings(tokens=(TOKEN,), host="0.0.0.0")
    assert TOKEN not in repr(settings)
    run = RunSettings.of(environment={"MILLSTREAM_GATEWAY_TOKENS": f"{TOKEN}, second"})
    assert TOKEN not in repr(run)
    assert {TOKEN, "second"} <= {secret.strip() for secret in run.secrets()}
    assert GatewaySettings.of(run).tokens == (TOKEN, "second")
    assert [Tokens(["a", "b"]).who(f"Bearer {one}") for one in "ab"] == [0, 1]
    with pytest.raises(HttpError):
        Tokens(["a"]).who("Bearer \ud800")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com"])
def test_other_machines_without_a_token_are_refused_at_the_start(host: str) -> None:
    with pytest.raises(SettingsError, match="MILLSTREAM_GATEWAY_TOKENS"):
        GatewaySettings(host=host)
    assert GatewaySettings(host=host, tokens=("x",)).host == host


async def test_other_origins_are_not_let_in_unless_they_are_named(http: Any) -> None:
    response = await http.options("/v1/answers", headers={"origin": "https://chat.example.com"})
    assert "access-control-allow-origin" not in response.headers
    broker = MemoryBroker()
    await topics_of(broker)
    settings = GatewaySettings(port=0, cors_origins=("https://chat.example.com",))
    async with gateway(broker, "shop", settings) as url, httpx.AsyncClient(base_url=url) as other:
        for origin, allowed in (("https://chat.example.com", True), ("https://evil.example", False)):
            response = await other.options("/v1/answers", headers={"origin": origin})
            assert (response.headers.get("access-control-allow-origin") == origin) is allowed


# Limits


def test_an_answer_does_not_wait_for_an_acknowledgement_of_its_head() -> None:
    """Head and body are two writes; where the second waits for the first (Nagle), a look-up of 2 ms takes 44."""
    transport = TopicsTransport(DocumentTopics.of("shop"), MemoryBroker())
    with GatewayServer(Door(transport, GatewaySettings(port=0)))._listening() as listening:
        listening.setblocking(True)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_rate_is_that_of_a_bucket() -> None:
    """Three at once, then one every two seconds; one token does not slow another."""
    now = [0.0]
    rates = Rates(30, 3, lambda: now[0])
    for _ in range(3):
        rates.take(0)
    with pytest.raises(HttpError) as refused:
        rates.take(0)
    assert (refused.value.status, refused.value.headers) == (429, {"retry-after": "2"})
    rates.take(1)
    now[0] = 2.0
    rates.take(0)
    with pytest.raises(HttpError):
        rates.take(0)
    now[0] = 1_000.0
    for _ in range(3):
        rates.take(0)
    with pytest.raises(HttpError):
        rates.take(0)


def test_places_are_given_back() -> None:
    places = Places(1, "requests")
    for _ in range(2):
        with places.place(), pytest.raises(HttpError, match="1 requests at a time"), places.place():
            pass
    assert places.taken == 0


async def test_too_many_and_too_slow_are_told_so() -> None:
    """Nobody answers: 504 with the question's id; meanwhile there is no place for another; then there is again."""
    broker = MemoryBroker()
    await topics_of(broker)
    settings = GatewaySettings(port=0, timeout_ms=3_000, concurrency_max=1)
    async with gateway(broker, "shop", settings) as url, httpx.AsyncClient(base_url=url, timeout=30) as http:

        async def refused() -> bool:
            return (await http.post("/v1/answers", json={})).status_code == 503  # else 400: it has a place

        slow = asyncio.create_task(http.post("/v1/answers", json={"question": "Anybody?", "id": "mine"}))
        await until(refused)
        response = await slow
        assert (*error_of(response)[:2], response.json()["error"]["query"]) == (504, "timeout", "mine")
        assert not await refused()


async def test_an_id_that_is_asked_already_is_refused() -> None:
    broker = MemoryBroker()
    await topics_of(broker)
    async with (
        gateway(broker, "shop", GatewaySettings(port=0, timeout_ms=500)) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        asked = [http.post("/v1/answers", json={"question": "Anybody?", "id": "mine"}) for _ in range(2)]
        assert sorted(one.status_code for one in await asyncio.gather(*asked)) == [400, 504]


# What it says of itself


async def test_openapi_describes_every_route_and_its_references_lead_somewhere(http: Any) -> None:
    told = (await http.get("/openapi.json")).json()
    described = {(path, method) for path, methods in told["paths"].items() for method in methods}
    served = {(re.sub(r":\w+}", "}", one.path), one.method.lower()) for one in routes()}
    assert described == served
    references = set(re.findall(r'"\$ref":"#/components/schemas/(\w+)"', orjson.dumps(told).decode()))
    assert references <= set(told["components"]["schemas"])
    ids = [one["operationId"] for methods in told["paths"].values() for one in methods.values()]
    assert len(ids) == len(set(ids))


async def test_answers_have_the_fields_that_openapi_names(http: Any) -> None:
    schemas = (await http.get("/openapi.json")).json()["components"]["schemas"]
    put = await http.put("/v1/documents/a.md", json={"text": "A lamp.", "content_type": "text/markdown"})
    assert set(put.json()["status"]) == set(schemas["Status"]["properties"])
    answer = (await http.post("/v1/answers", json={"question": "lamp", "fresh": True})).json()
    assert set(answer) == set(schemas["Answer"]["properties"])
    assert set(answer["sources"][0]) == set(schemas["Source"]["properties"])


def test_a_pipeline_file_says_how_it_is_served(tmp_path: Any) -> None:
    from millstream.ops.load import gateway_options

    file = tmp_path / "p.yaml"
    file.write_text("app: shop\ndocuments: {embedder: hashing}\ngateway: {port: 8081, timeout: 5s, index: false}\n")
    options = gateway_options(str(file))
    assert options == {"gateway_port": 8081, "gateway_timeout_ms": 5_000, "gateway_index": False}
    chosen = GatewaySettings.of(RunSettings.of(code=options, environment={"MILLSTREAM_GATEWAY_PORT": "9000"}))
    assert (chosen.port, chosen.timeout_ms) == (9_000, 5_000)
    with pytest.raises(Exception, match=r"pipeline.yaml:3: 'prot' is not a key of gateway; did you mean 'port'"):
        pipeline_of("app: shop\ndocuments: {embedder: hashing}\ngateway: {prot: 1}\n")
