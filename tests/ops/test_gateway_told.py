"""What a gateway tells of itself: its metrics, and answers that came too late for who asked."""

from __future__ import annotations

import httpx2 as httpx

from millstream.ops.gateway.settings import GatewaySettings
from millstream.rag.document_topics import TOPICS
from millstream.rag.pipeline import document_pipeline
from millstream.topics.memory import MemoryBroker
from millstream.workers.app import App
from tests.polling import until
from tests.rag.served import gateway, running

TOKEN = "a-token-of-tests"


async def topics_of(broker: MemoryBroker) -> None:
    """A pipeline that nobody works on."""
    pipeline = document_pipeline(App("shop"))
    await broker.create_topics([pipeline.topic(topic).spec() for topic in TOPICS])


async def test_its_metrics_are_its_own() -> None:
    broker = MemoryBroker()
    await topics_of(broker)
    async with gateway(broker, "shop") as url, httpx.AsyncClient(base_url=url, timeout=60) as http:
        await http.get("/v1/documents/none.md")
        await http.get("/no/such/place")
        await http.post("/v1/answers", json={"question": ""})
        response = await http.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        lines = response.text.splitlines()
        assert 'millstream_gateway_requests_total{route="/v1/documents/{uri}",status="404"} 1.0' in lines
        assert 'millstream_gateway_requests_total{route="none",status="404"} 1.0' in lines
        assert 'millstream_gateway_requests_total{route="/v1/answers",status="400"} 1.0' in lines
        assert 'millstream_gateway_request_seconds_count{route="/v1/answers"} 1.0' in lines
        assert "millstream_gateway_questions_open 0.0" in lines
        assert not [line for line in lines if "worker_ready" in line or "ignored_total 1" in line]


async def test_metrics_want_a_token_where_questions_do() -> None:
    broker = MemoryBroker()
    await topics_of(broker)
    async with gateway(broker, "shop", GatewaySettings(port=0, tokens=(TOKEN,))) as url, httpx.AsyncClient() as client:
        assert (await client.get(f"{url}/metrics")).status_code == 401
        known = {"authorization": f"Bearer {TOKEN}"}
        assert (await client.get(f"{url}/metrics", headers=known)).status_code == 200


async def test_an_answer_that_came_too_late_is_asked_for_by_its_id() -> None:
    """504 with the id, 202 until it is there, then the answer; 404 for a question that nobody asked."""
    broker = MemoryBroker()
    await broker.start()
    await topics_of(broker)
    settings = GatewaySettings(port=0, timeout_ms=300)
    async with gateway(broker, "shop", settings) as url, httpx.AsyncClient(base_url=url, timeout=60) as http:
        late = await http.post("/v1/answers", json={"question": "Where is the lamp made?"})
        known = late.json()["error"]["query"]
        assert (late.status_code, late.json()["error"]["type"]) == (504, "timeout")
        pending = await http.get(f"/v1/answers/{known}")
        assert (pending.status_code, pending.json()) == (202, {"id": known, "state": "pending"})
        async with running(broker, "shop"):  # somebody works on it at last

            async def is_there() -> bool:
                return bool((await http.get(f"/v1/answers?id={known}")).status_code == 200)

            await until(is_there)
        answer = (await http.get(f"/v1/answers/{known}")).json()
        assert (answer["id"], answer["question"], answer["no_answer"]) == (known, "Where is the lamp made?", True)
        nobodys = await http.get("/v1/answers/nobodys")
        assert (nobodys.status_code, nobodys.json()["error"]["param"]) == (404, "id")
        told = (await http.get("/metrics")).text
        assert 'millstream_gateway_timeouts_total{route="/v1/answers"} 1.0' in told.splitlines()
