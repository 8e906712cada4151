"""A call that was paid for is found by whoever asks the same, wherever the one who paid has died (`rag/paid_calls.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from millstream.rag.call_cache import CallCache
from millstream.rag.completions import Completions, told_model
from millstream.rag.document import Chunk, Hit, Tokens
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.llm import LLM
from millstream.rag.llms.quote import Quote
from millstream.rag.llms.scripted import Scripted
from millstream.rag.paid_calls import NoPaidCalls, PaidCall, PaidCalls
from millstream.rag.prompt import Passage, Prompt
from millstream.rag.reranker import Candidates, Ranked
from millstream.rag.rerankers.llm import Llm
from millstream.rag.settings import PaidCallSettings
from millstream.state.key_value import KeyValueState
from millstream.topics.batch import Partition
from millstream.topics.broker import TopicSpec
from millstream.topics.errors import AuthorizationError, BrokerUnavailableError
from millstream.topics.memory import MemoryBroker

TOPIC = "shop.paid-calls"
SETTINGS = PaidCallSettings(poll_timeout_ms=20, retry_pause_ms=5)
PROMPT = Prompt("Where is the lamp made?", (Passage(1, "lamp.md", "The lamp is made in Jena.", "c", 1),))


@asynccontextmanager
async def following(calls: PaidCalls) -> AsyncIterator[PaidCalls]:
    running = asyncio.create_task(calls.run())
    try:
        yield calls
    finally:
        running.cancel()
        await asyncio.wait([running])


def cache() -> CallCache:
    state = KeyValueState("calls")
    state.restore([], [])
    return CallCache(state, 100)


def model() -> Scripted:
    return Scripted({PROMPT.question: "Jena"})


async def started() -> MemoryBroker:
    broker = MemoryBroker()
    await broker.start()
    return broker


async def test_who_comes_later_finds_what_was_told() -> None:
    broker = await started()
    async with following(PaidCalls(broker, TOPIC, SETTINGS)) as killed:
        await killed.tell(b"key", PaidCall("q1", b"Jena"))
    async with following(PaidCalls(broker, TOPIC, SETTINGS)) as other:
        assert await other.find(b"key") == PaidCall("q1", b"Jena")
        assert await other.find(b"another") is None


async def test_who_is_there_hears_of_it() -> None:
    broker = await started()
    one, other = PaidCalls(broker, TOPIC, SETTINGS), PaidCalls(broker, TOPIC, SETTINGS)
    async with following(one), following(other):
        assert await other.find(b"key") is None
        await one.tell(b"key", PaidCall("q1", b"Jena"))
        await _until(lambda: other.find(b"key"))


async def test_what_is_older_than_the_retention_is_not_read() -> None:
    broker = await started()
    async with following(PaidCalls(broker, TOPIC, SETTINGS)) as killed:
        await killed.tell(b"key", PaidCall("q1", b"Jena"))
    later = PaidCalls(broker, TOPIC, SETTINGS, clock_ms=lambda: 1 << 42)
    async with following(later):
        assert await later.find(b"key") is None


async def test_no_more_are_held_than_the_limit() -> None:
    broker = await started()
    async with following(PaidCalls(broker, TOPIC, replace(SETTINGS, entries_max=2))) as calls:
        for key in (b"a", b"b", b"c"):
            await calls.tell(key, PaidCall("q", key))
        assert [await calls.find(key) is not None for key in (b"a", b"b", b"c")] == [False, True, True]


async def test_a_topic_that_is_there_is_taken_as_it_is() -> None:
    broker = await started()
    await broker.create_topics([TopicSpec(TOPIC, partitions=3)])
    async with following(PaidCalls(broker, TOPIC, SETTINGS)) as calls:
        await calls.tell(b"key", PaidCall("q", b"x"))
        assert await calls.find(b"key") is not None


async def test_what_others_wrote_into_the_topic_is_passed_over() -> None:
    import pyarrow as pa

    from millstream.topics.batch import Records

    broker = await started()
    await broker.create_topics([TopicSpec(TOPIC, partitions=1)])
    producer = broker.producer()
    await producer.start()
    values = [None, b"", b"\0\0", b"\0\0\0\xff", b"\0\0\0\1\xff", b"\0\0\0\1q!"]
    keys = [b"%d" % number for number in range(len(values))]
    records = Records(pa.array(keys, pa.large_binary()), pa.array(values, pa.large_binary()))
    await (await producer.send(Partition(TOPIC, 0), records))
    async with following(PaidCalls(broker, TOPIC, SETTINGS)) as calls:
        found = [await calls.find(key) for key in keys]
    assert found == [None, None, None, None, None, PaidCall("q", b"!")]


class Refusing(MemoryBroker):
    """May not create topics."""

    async def create_topics(self, specs: Any) -> None:
        raise AuthorizationError("create topics: not allowed")


class Away(MemoryBroker):
    """Out of reach for the first three questions."""

    left = 3

    async def describe_topics(self, topics: Any) -> Any:
        self.left -= 1
        if self.left >= 0:
            raise BrokerUnavailableError("away")
        return await super().describe_topics(topics)


async def test_without_the_right_to_make_the_topic_answers_go_on(caplog: pytest.LogCaptureFixture) -> None:
    broker = Refusing()
    await broker.start()
    async with following(PaidCalls(broker, TOPIC, replace(SETTINGS, tell_timeout_ms=50))) as calls:
        assert await calls.find(b"key") is None
        await calls.tell(b"key", PaidCall("q", b"x"))
        assert await calls.find(b"key") is not None, "this process knows it all the same"
    assert "paid calls are not shared between workers" in caplog.text


async def test_a_broker_out_of_reach_is_asked_again() -> None:
    broker = Away()
    await broker.start()
    async with following(PaidCalls(broker, TOPIC, SETTINGS)) as calls:
        assert await calls.find(b"key") is None
        assert broker.left < 0


async def test_who_cannot_read_waits_no_longer_than_the_limit() -> None:
    calls = PaidCalls(await started(), TOPIC, replace(SETTINGS, ready_timeout_ms=10))
    assert await calls.find(b"key") is None


# -- the model


async def test_a_call_whose_answer_was_never_committed_is_not_paid_for_again() -> None:
    """The worker that asked is gone, with its cache; the one that answers the question now says what it had cost."""
    broker, first, second = await started(), model(), model()
    async with following(PaidCalls(broker, TOPIC, SETTINGS)) as calls:
        paid = await Completions(first, "", calls).complete(PROMPT, None, cache(), asker="q1")
    async with following(PaidCalls(broker, TOPIC, SETTINGS)) as calls:
        again = await Completions(second, "", calls).complete(PROMPT, None, cache(), asker="q1")
        other = await Completions(second, "", calls).complete(PROMPT, None, cache(), asker="q2")
    assert (len(first.prompts), len(second.prompts)) == (1, 0)
    assert again.completion == paid.completion
    assert again.entry == paid.entry, "and it is committed with the answer"
    assert other.completion == replace(paid.completion, tokens=Tokens()), "another question has not paid"


async def test_negative_control_without_the_topic_it_is() -> None:
    first, second = model(), model()
    for llm in (first, second):
        await Completions(llm, "", NoPaidCalls()).complete(PROMPT, None, cache(), asker="q1")
    assert (len(first.prompts), len(second.prompts)) == (1, 1)


async def test_an_order_that_a_model_was_paid_for_is_not_paid_for_again() -> None:
    """By the reranker `llm`, which asks the model itself: of a worker that was killed, and where nobody was told."""
    broker, candidates = await started(), Candidates(PROMPT.question, (hit("a", 1.0), hit("b", 0.5)), 0.0)
    first, second, alone = (Scripted({PROMPT.question: "2 1"}) for _ in range(3))
    found = []
    for llm in (first, second):
        async with following(PaidCalls(broker, TOPIC, SETTINGS)) as calls:
            found.append(await reranked(told_model(llm, calls), candidates))
    await reranked(told_model(alone, None), candidates)
    assert [len(llm.prompts) for llm in (first, second, alone)] == [1, 0, 1]
    assert found[0].hits == found[1].hits
    assert found[0].tokens.prompt > found[1].tokens.prompt == 0


async def reranked(llm: LLM, candidates: Candidates) -> Ranked:
    """By a process that has begun."""
    reranker = Llm()
    reranker.use(Hashing(), llm)
    return await reranker.rerank(candidates)


def hit(name: str, score: float) -> Hit:
    return Hit(Chunk(name, f"{name}.md", f"The lamp {name} is made in Jena."), score)


async def test_a_found_call_is_heard_in_one_piece() -> None:
    broker, heard = await started(), []
    async with following(PaidCalls(broker, TOPIC, SETTINGS)) as calls:
        await Completions(model(), "", calls).complete(PROMPT, None, cache(), asker="q1")
        await Completions(model(), "", calls).complete(PROMPT, None, cache(), heard.append, asker="q1")
    assert heard == ["Jena [1]"]


async def test_a_model_that_costs_nothing_tells_nobody() -> None:
    broker = await started()
    async with following(PaidCalls(broker, TOPIC, SETTINGS)) as calls:
        await Completions(Quote(), "", calls).complete(PROMPT, None, cache(), asker="q1")
        await calls.find(b"")
        reader = broker.reader()
        await reader.start()
        ends = await reader.end_offsets([Partition(TOPIC, 0)])
    assert list(ends.values()) == [0]


async def _until(asked: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(30):
        while not await asked():
            await asyncio.sleep(0.005)


async def test_calls_told_at_once_are_sent_by_one_producer() -> None:
    """Each that is not dropped would keep its connections for ever."""
    broker = Counting()
    await broker.start()
    async with following(PaidCalls(broker, TOPIC, SETTINGS)) as calls:
        await asyncio.gather(*(calls.tell(b"%d" % number, PaidCall("q", b"x")) for number in range(8)))
        assert [await calls.find(b"%d" % number) is not None for number in range(8)] == [True] * 8
    assert broker.made == 1


class Counting(MemoryBroker):
    """Counts its producers."""

    made = 0

    def producer(self, **options: Any) -> Any:
        self.made += 1
        return super().producer(**options)
