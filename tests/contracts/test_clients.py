"""A client does the same over Kafka's topics and through a gateway, with an index of its own or without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from millstream.client import AnswerError, AsyncClient, Client
from millstream.ops.gateway.settings import GatewaySettings
from millstream.rag.catalogue_values import DocumentStatistics
from millstream.rag.errors import FilterError, MessageError
from millstream.topics.errors import BrokerUnavailableError
from millstream.topics.memory import MemoryBroker
from tests.rag.served import bound_answer, gateway, running

MARKDOWN = "text/markdown"
TOKEN = "a-token-of-tests"


@pytest.fixture(params=["topics", "gateway", "gateway_with_index"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[AsyncClient]:
    broker = MemoryBroker()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(broker, "shop"))
        if request.param == "topics":
            made = AsyncClient("shop", broker=broker)
        else:
            answer = bound_answer(broker, "shop") if "index" in request.param else None
            settings = GatewaySettings(port=0, tokens=("another", TOKEN))
            url = await stack.enter_async_context(gateway(broker, "shop", settings, answer))
            made = AsyncClient(url=url, token=TOKEN)
        yield await stack.enter_async_context(made)


async def test_what_was_put_is_found_what_was_edited_is_seen_what_was_deleted_is_gone(client: AsyncClient) -> None:
    status = await client.put("lamp.md", text="The lamp is made in Jena.", content_type=MARKDOWN)
    assert (status.state, status.chunks, status.embedded) == ("indexed", 1, 1)
    answer = await client.ask("Where is the lamp made?", fresh=True)
    assert (answer.answer, answer.sources[0].chunk.document) == ("The lamp is made in Jena. [1]", "lamp.md")
    await client.put("lamp.md", text="The lamp is made in Turin.", content_type=MARKDOWN)
    assert (await client.ask("Where is the lamp made?", fresh=True)).answer == "The lamp is made in Turin. [1]"
    (hit,) = await client.retrieve("lamp", k=1, filter="uri = 'lamp.md'", fresh=True)
    assert (hit.chunk.document, "Turin" in hit.chunk.text) == ("lamp.md", True)
    await client.delete("lamp.md")
    gone = await client.ask("Where is the lamp made?", fresh=True)
    assert (gone.answer, gone.no_answer, gone.sources) == (None, True, ())
    assert await client.retrieve("lamp", fresh=True) == []


@pytest.mark.parametrize(
    "uri", ["a b.md", "s3://bucket//a/../b?c#d", "grüße/日本.md", "100%.md", "..", "/", "a\nb", "a+b&c=d"]
)
async def test_a_documents_id_may_be_anything(client: AsyncClient, uri: str) -> None:
    await client.put(uri, text="A lamp.", content_type=MARKDOWN)
    found = await client.document(uri)
    assert found is not None
    assert (found.uri, found.status.state) == (uri, "indexed")
    assert [one.uri for one in (await client.documents()).documents] == [uri]
    await client.delete(uri)
    assert await client.document(uri) is None


async def test_documents_are_listed_page_by_page_and_counted(client: AsyncClient) -> None:
    for number in range(5):
        await client.put(
            f"{number}.md",
            text=f"Thing {number}.",
            content_type=MARKDOWN,
            metadata={"odd": number % 2 == 1},
            modified_at=number,
        )
    await client.put("broken.pdf", content=b"%PDF-1.4 no", content_type="application/pdf")
    page = await client.documents(limit=2)
    assert ([one.uri for one in page.documents], page.next) == (["0.md", "1.md"], "1.md")
    page = await client.documents(after="1.md", limit=10)
    assert ([one.uri for one in page.documents], page.next) == (["2.md", "3.md", "4.md", "broken.pdf"], None)
    odd = await client.documents("odd = true")
    assert [(one.uri, one.status.metadata["odd"]) for one in odd.documents] == [("1.md", True), ("3.md", True)]
    some = await client.documents({"jmespath": "odd && path != '3.md'", "glob": "*.md"})
    assert [one.uri for one in some.documents] == ["1.md"]
    figures = await client.statistics()
    assert figures == DocumentStatistics(6, 1, 5, figures.last_indexed_at_ms, 4)
    assert figures.last_indexed_at_ms


async def test_what_goes_wrong_is_said_to_who_asked_by_its_class(client: AsyncClient) -> None:
    failed = await client.put("broken.pdf", content=b"%PDF-1.4 no", content_type="application/pdf")
    assert (failed.state, bool(failed.error)) == ("failed", True)
    with pytest.raises((AnswerError, FilterError), match="filter"):
        await client.ask("Who?", filter="this is (no filter")
    with pytest.raises(FilterError, match="filter"):
        await client.documents("this is (no filter")
    await client.put("x.md", text="Who is who?", content_type=MARKDOWN)
    with pytest.raises(AnswerError, match="no model 'gpt-9'"):
        await client.ask("Who is who?", model="gpt-9", fresh=True)
    with pytest.raises((AnswerError, MessageError), match=r"\$\.k"):
        await client.ask("Who?", k=1_000)
    with pytest.raises(ValueError, match="exactly one of text, content and ref"):
        await client.put("x", text="a", content=b"b")
    assert (await client.put("good.md", text="Good.", content_type=MARKDOWN)).state == "indexed"


async def test_many_at_once_each_get_their_own(client: AsyncClient) -> None:
    names = range(8)
    await asyncio.gather(
        *(client.put(f"{n}.md", text=f"The thing{n} is made in town{n}.", content_type=MARKDOWN) for n in names)
    )
    answers = await asyncio.gather(*(client.ask(f"Where is the thing{n} made?", fresh=True) for n in names))
    assert [f"town{n}" in (answer.answer or "") for n, answer in enumerate(answers)] == [True] * 8
    hits = await asyncio.gather(*(client.retrieve(f"thing{n}", k=1, fresh=True) for n in names))
    assert [one[0].chunk.document for one in hits] == [f"{n}.md" for n in names]


async def test_a_follow_up_is_understood_in_its_conversation_alone(client: AsyncClient) -> None:
    await client.put("lamp.md", text="The lamp is made in Jena. It costs 40 euros.", content_type=MARKDOWN)
    await client.put("clock.md", text="The clock is made in Basel. It costs 9 euros.", content_type=MARKDOWN)
    await client.ask("Where is the lamp made?", stream="talk-1", fresh=True)
    await client.ask("Where is the clock made?", stream="talk-2")
    answers = [await client.ask("And what does it cost?", stream=talk, k=1) for talk in ("talk-1", "talk-2")]
    assert [answer.sources[0].chunk.document for answer in answers] == ["lamp.md", "clock.md"]


async def test_a_standing_question_is_followed(client: AsyncClient) -> None:
    """Each answer as the documents change; it ends with who follows it."""
    await client.put("lamp.md", text="The lamp is made in Jena.", content_type=MARKDOWN)
    await client.ask("lamp", fresh=True)
    answers = client.follow("Where is the lamp made?")
    first = await anext(answers)
    assert (first.answer, first.revision) == ("The lamp is made in Jena. [1]", 0)
    await client.put("lamp.md", text="The lamp is made in Turin.", content_type=MARKDOWN)
    second = await anext(answers)
    assert (second.answer, second.revision) == ("The lamp is made in Turin. [1]", 1)
    await answers.aclose()


async def test_a_standing_question_with_an_id_of_its_own_ends_when_it_is_ended(client: AsyncClient) -> None:
    await client.put("lamp.md", text="The lamp is made in Jena.", content_type=MARKDOWN)
    answers = client.follow("Where is the lamp made?", id="mine/1")
    await anext(answers)
    await client.end("mine/1")
    assert [answer async for answer in answers] == []


async def test_a_gateway_that_is_not_there_is_said() -> None:
    async with AsyncClient(url="http://127.0.0.1:1") as client:
        with pytest.raises(BrokerUnavailableError, match="is the gateway running"):
            await client.ask("Who?")


async def test_a_wrong_token_is_said_and_shown_nowhere() -> None:
    broker = MemoryBroker()
    settings = GatewaySettings(port=0, tokens=(TOKEN,))
    async with running(broker, "shop"), gateway(broker, "shop", settings) as url:
        async with AsyncClient(url=url, token="wrong-token") as client:
            with pytest.raises(AnswerError, match="wants a token that it knows") as raised:
                await client.ask("Who?")
        assert "wrong-token" not in str(raised.value)
        assert TOKEN not in f"{settings!r} {client!r} {client._transport!r}"


def test_app_and_url_exclude_each_other() -> None:
    for app, url in ((None, None), ("shop", "http://127.0.0.1:8080")):
        with pytest.raises(ValueError, match="and not both"):
            AsyncClient(app, url=url)


async def test_the_client_that_waits_does_the_same() -> None:
    broker = MemoryBroker()

    def script(url: str) -> list[object]:
        with Client(url=url) as client:
            client.put("lamp.md", text="The lamp is made in Jena.", content_type=MARKDOWN)
            answers = client.follow("Where is the lamp made?")
            found: list[object] = [client.ask("Where is the lamp made?", fresh=True).answer, next(answers).answer]
            answers.close()
            found += [client.statistics().documents, client.documents().documents[0].uri]
            client.delete("lamp.md")
            return [*found, client.document("lamp.md")]

    async with running(broker, "shop"), gateway(broker, "shop") as url:
        told = await asyncio.to_thread(script, url)
    assert told == ["The lamp is made in Jena. [1]", "The lamp is made in Jena. [1]", 1, "lamp.md", None]


@pytest.mark.kafka
async def test_through_a_gateway_on_a_real_kafka(kafka: str, unique: Callable[[str], str]) -> None:
    from millstream.topics.kafka.broker import KafkaBroker

    name = unique("help")
    async with running(KafkaBroker({"bootstrap.servers": kafka}), name):
        reached = KafkaBroker({"bootstrap.servers": kafka})
        await reached.start()
        async with gateway(reached, name, answer=bound_answer(reached, name)) as url, AsyncClient(url=url) as client:
            await client.put("lamp.md", text="The lamp is made in Jena.", content_type=MARKDOWN)
            assert (await client.ask("Where is the lamp made?", fresh=True)).answer == "The lamp is made in Jena. [1]"
            assert (await client.retrieve("lamp", fresh=True))[0].chunk.document == "lamp.md"
            await client.delete("lamp.md")
        await reached.stop()
