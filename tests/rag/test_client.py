"""A program of somebody's own puts documents, asks, and waits for what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from millstream.client import AnswerError, AsyncClient, Client
from millstream.rag.document import Answer, Asked, Chunk, Hit, Tokens
from millstream.rag.document_topics import TOPICS
from millstream.rag.errors import MessageError
from millstream.rag.messages import Status, write_answer, write_status
from millstream.rag.pipeline import document_pipeline
from millstream.rag.read_back import read_answer, read_status
from millstream.rag.topics_transport import TopicsTransport
from millstream.topics.kafka.broker import KafkaBroker
from millstream.topics.memory import MemoryBroker
from millstream.workers.app import App
from tests.rag.served import running


async def test_what_was_put_is_found_what_was_edited_is_seen_what_was_deleted_is_gone() -> None:
    broker = MemoryBroker()
    async with running(broker, "shop"), AsyncClient("shop", broker=broker) as client:
        status = await client.put("lamp.md", text="# Lamps\n\nThe lamp is made in Jena.", content_type="text/markdown")
        assert (status.state, status.chunks, status.embedded) == ("indexed", 1, 1)
        answer = await client.ask("Where is the lamp made?", fresh=True)
        assert (answer.answer, answer.sources[0].chunk.document) == ("The lamp is made in Jena. [1]", "lamp.md")
        await client.put("lamp.md", text="# Lamps\n\nThe lamp is made in Turin.", content_type="text/markdown")
        assert (await client.ask("Where is the lamp made?", fresh=True)).answer == "The lamp is made in Turin. [1]"
        (hit,) = await client.retrieve("lamp", k=1, filter="uri = 'lamp.md'")
        assert "Turin" in hit.chunk.text
        await client.delete("lamp.md")
        gone = await client.ask("Where is the lamp made?", fresh=True)
        assert (gone.answer, gone.no_answer, gone.sources) == (None, True, ())


async def test_many_questions_at_once_each_get_their_own_answer() -> None:
    broker = MemoryBroker()
    async with running(broker, "shop"), AsyncClient("shop", broker=broker) as client:
        await asyncio.gather(
            *(
                client.put(f"{n}.md", text=f"The thing{n} is made in town{n}.", content_type="text/markdown")
                for n in range(8)
            )
        )
        answers = await asyncio.gather(*(client.ask(f"Where is the thing{n} made?", fresh=True) for n in range(8)))
        assert [answer.question for answer in answers] == [f"Where is the thing{n} made?" for n in range(8)]
        assert all(f"town{n}" in (answer.answer or "") for n, answer in enumerate(answers))


async def test_what_goes_wrong_is_said_to_who_asked() -> None:
    broker = MemoryBroker()
    async with running(broker, "shop"), AsyncClient("shop", broker=broker) as client:
        failed = await client.put("broken.pdf", content=b"%PDF-1.4 no", content_type="application/pdf")
        assert failed.state == "failed"
        assert failed.error
        with pytest.raises(AnswerError, match="filter"):
            await client.ask("Who?", filter="this is (no filter")
        with pytest.raises(ValueError, match="exactly one of text, content and ref"):
            await client.put("x", text="a", content=b"b")
        assert (await client.put("good.md", text="Good.")).state == "indexed"


async def test_a_pipeline_that_does_not_answer_is_a_timeout() -> None:
    broker = MemoryBroker()
    app = App("shop")
    pipeline = document_pipeline(app)
    await broker.create_topics([replace(pipeline.topic(name).spec(), partitions=1) for name in TOPICS])
    async with AsyncClient("shop", broker=broker, timeout_s=0.05) as client:
        with pytest.raises(TimeoutError):
            await client.ask("Anybody?")
        with pytest.raises(TimeoutError):
            await client.put("x.md", text="x")
        transport = client._transport
        assert isinstance(transport, TopicsTransport)
        assert transport.pending == 0


async def test_a_pipeline_that_is_not_there_is_named() -> None:
    with pytest.raises(MessageError, match=r"no topic 'shp\.answers'; has the pipeline run"):
        async with AsyncClient("shp", broker=MemoryBroker()):
            pass


async def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await AsyncClient("shop", broker=MemoryBroker()).ask("Who?")


def test_answers_and_statuses_are_read_as_they_were_written() -> None:
    answer = Answer(
        "q1",
        "Who?",
        "Ada [1].",
        False,
        (Hit(Chunk("c", "a.md", "Ada.", {"page": 3}, 7), 1.5),),
        (Asked(1, Tokens(10, 2), True), Asked(3, Tokens(20, 4), False)),
        3,
        Tokens(30, 6),
        0.25,
        "m",
        {0: 5, 1: 9},
        12,
        1,
    )
    assert read_answer(write_answer(answer)) == answer
    incomplete = replace(answer, missing_shards={3: "no answer within 5000 ms", 11: "it is catching up"})
    assert read_answer(write_answer(incomplete)) == incomplete
    assert read_answer(write_answer(Answer("q", "Who?", error="no"))) == Answer("q", "Who?", error="no")
    status = Status("failed", 3, 1, 2, True, "broken", "v2", 40, "text/csv", {"a": 1}, 7)
    assert read_status(write_status(status)) == status
    assert read_status(None) is None


@pytest.mark.parametrize("value", [None, b"", b"[]", b"nonsense", b'{"error": 5}', b'{"index_position": {"x": 1}}'])
def test_a_record_that_is_no_answer_is_an_error(value: bytes | None) -> None:
    with pytest.raises(MessageError):
        read_answer(value)


@pytest.mark.kafka
async def test_the_client_that_waits_on_a_real_kafka(kafka: str, unique: Callable[[str], str], tmp_path: Path) -> None:
    """From a thread without an event loop, as a script would."""
    name = unique("help")

    def script() -> tuple[str | None, bool]:
        with Client(name, bootstrap=kafka) as client:
            client.put("lamp.md", text="The lamp is made in Jena.", content_type="text/markdown")
            found = client.ask("Where is the lamp made?", fresh=True).answer
            assert client.retrieve("lamp")[0].chunk.document == "lamp.md"
            client.delete("lamp.md")
            return found, client.ask("Where is the lamp made?", fresh=True).no_answer

    async with running(KafkaBroker({"bootstrap.servers": kafka}), name):
        assert await asyncio.to_thread(script) == ("The lamp is made in Jena. [1]", True)
