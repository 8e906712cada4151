"""Requests to shards and their replies over the topics: addressed, in parts, twice, late, for others, broken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
import pytest

from millstream.rag.document import Chunk
from millstream.rag.errors import IndexUnavailableError, MessageError
from millstream.rag.keywords import TermCounts
from millstream.rag.settings import ShardSettings
from millstream.rag.shard_asker import Asked, ShardAsker
from millstream.rag.shard_messages import Candidate, ShardQuery, ShardReply, read_request, write_reply, write_request
from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.errors import BrokerUnavailableError
from millstream.topics.memory import MemoryBroker
from millstream.topics.memory.faults import When
from millstream.topics.memory.producer import MemoryProducer
from millstream.topics.partitioner import murmur2
from tests.crashes.virtual_time import LoopClock, run_virtually
from tests.rag.shards import TOPICS, Record

SHARDS = 2
CHUNKS = tuple(Chunk(f"{n:032x}", "d", f"text {n}", {"year": n}, n, "v", {"page": n}, "p") for n in range(3))
Answering = Callable[[int, bytes | None, ShardQuery], Sequence[Record]]


class Playing:
    """Broker, one asker, and somebody who answers for the shards."""

    def __init__(self, answering: Answering, settings: ShardSettings | None = None) -> None:
        self.broker = MemoryBroker(clock=LoopClock())
        self.asker = ShardAsker(self.broker, TOPICS, settings or ShardSettings(), "me")
        self.answering = answering
        self.requests: list[tuple[int, str]] = []
        self.heard = asyncio.Event()

    async def _answer(self) -> None:
        reader = self.broker.reader()
        await reader.start()
        reader.assign({Partition(TOPICS.shard_queries, shard): 0 for shard in range(SHARDS)})
        while True:
            for fetch in await reader.poll(timeout_ms=100, records_max=100):
                for key, value in zip(fetch.keys, fetch.values, strict=True):
                    request = read_request(value)
                    self.requests.append((fetch.partition.index, request.ask))
                    self.heard.set()
                    for record in self.answering(fetch.partition.index, key, request):
                        await self.reply(*record)

    async def reply(self, key: bytes | None, value: bytes | None) -> None:
        producer = self.broker.producer()
        await producer.start()
        target = Partition(TOPICS.shard_hits, (murmur2(key or b"") & 0x7FFFFFFF) % 3)
        await (await producer.send(target, Records(large_binary([key]), large_binary([value]))))
        await producer.stop()

    def run(self, work: Callable[[], Awaitable[Asked]]) -> Asked:
        async def whole() -> Asked:
            await self.broker.start()
            await self.broker.create_topics(
                [
                    TopicSpec(TOPICS.index_updates, SHARDS),
                    TopicSpec(TOPICS.shard_queries, SHARDS),
                    TopicSpec(TOPICS.shard_hits, 3),
                ]
            )
            tasks = [asyncio.create_task(self.asker.run()), asyncio.create_task(self._answer())]
            try:
                return await work()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

        return run_virtually(whole())

    def ask(self, *shards: int) -> Asked:
        return self.run(lambda: self.asker.ask({shard: ShardQuery("count", question="lamp") for shard in shards}))


def counted(shard: int, key: bytes | None, request: ShardQuery) -> list[Record]:
    return write_reply(key, request.id, ShardReply(shard, 7, TermCounts(shard, 1, {"lamp": 1})))


def test_each_shard_is_asked_in_its_partition_and_its_reply_comes_back() -> None:
    playing = Playing(counted)
    asked = playing.ask(0, 1)
    assert sorted(playing.requests) == [(0, "count"), (1, "count")]
    assert {shard: (reply.shard, reply.counts.chunks) for shard, reply in asked.replies.items()} == {
        0: (0, 0),
        1: (1, 1),
    }
    assert asked.missing == {}


def test_a_shard_that_is_silent_is_missing_after_the_deadline() -> None:
    playing = Playing(lambda *at: counted(*at) if at[0] == 0 else [], ShardSettings(deadline_ms=900))
    asked = playing.ask(0, 1)
    assert (sorted(asked.replies), asked.missing) == ([0], {1: "no answer within 900 ms"})


def test_parts_may_come_in_any_order_and_twice() -> None:
    """A request that a worker answers anew after a crash."""

    def fetched(shard: int, key: bytes | None, request: ShardQuery) -> list[Record]:
        records = write_reply(key, request.id, ShardReply(shard, 7, chunks=CHUNKS))
        return [records[2], records[0], records[2], records[1], *records]

    playing = Playing(fetched)
    assert playing.ask(0).replies[0].chunks == CHUNKS


def test_replies_to_others_are_not_heard_and_late_ones_are_counted() -> None:
    def doubled(shard: int, key: bytes | None, request: ShardQuery) -> list[Record]:
        told = counted(shard, key, request)
        foreign = [(b"somebody else", told[0][1])]
        broken: list[Record] = [
            (key, b"no JSON"),
            (key, b'{"id": 3}'),
            (key, orjson.dumps({"id": request.id, "parts": "x"})),
        ]
        return [*foreign, *broken, *told, *told, *told]

    playing = Playing(doubled)

    async def twice() -> Asked:
        await playing.asker.ask({0: ShardQuery("count")})
        return await playing.asker.ask({0: ShardQuery("count")})

    assert sorted(playing.run(twice).replies) == [0]
    counts = playing.asker.take_counts()
    assert (counts["late_replies"] >= 2, counts["unreadable_replies"] >= 3) == (True, True)
    assert playing.asker.take_counts() == {}


def test_a_shard_that_says_that_asking_is_of_no_use_fails_the_question() -> None:
    playing = Playing(lambda shard, key, one: write_reply(key, one.id, ShardReply(shard, wrong="no such filter")))
    with pytest.raises(IndexUnavailableError, match="shard 0 of the index: no such filter"):
        playing.ask(0)


def test_there_are_as_many_shards_as_partitions_and_a_topic_with_others_is_told() -> None:
    playing = Playing(counted)

    async def count() -> Asked:
        assert await playing.asker.shards() == SHARDS
        return Asked({}, {})

    playing.run(count)
    other = Playing(counted)
    other.asker._topics = type(TOPICS)(TOPICS.index_updates, TOPICS.shard_hits, TOPICS.shard_hits)

    async def count_others() -> Asked:
        await other.asker.shards()
        return Asked({}, {})

    with pytest.raises(IndexUnavailableError, match="has 2 partitions and 'shard-hits' has 3"):
        other.run(count_others)


def test_requests_that_are_made_together_are_sent_together() -> None:
    """Of ten questions at once each shard gets one batch, and each question its own reply."""
    playing = Playing(counted)
    sent: list[object] = []

    def told(request: str, when: str, client: object) -> None:
        if (request, when) == ("produce", "before") and client is playing.asker._producer._started:
            sent.append(client)

    async def work() -> Asked:
        playing.broker.faults.observe(told)
        asking = [playing.asker.ask({0: ShardQuery("count"), 1: ShardQuery("count")}) for _ in range(10)]
        asked = await asyncio.gather(*asking)
        assert [sorted(one.replies) for one in asked] == [[0, 1]] * 10
        return asked[0]

    playing.run(work)
    assert (len(playing.requests), len(sent)) == (20, SHARDS)


def test_a_producer_that_does_not_start_is_started_again() -> None:
    """Those whose requests it was to send ask again."""
    playing = Playing(counted)
    lost: list[object] = []

    def told(request: str, when: str, client: object) -> None:
        if not lost and (request, when) == ("metadata", "before") and isinstance(client, MemoryProducer):
            lost.append(client)
            raise BrokerUnavailableError("no")

    playing.broker.faults.observe(told)
    assert sorted(playing.ask(0, 1).replies) == [0, 1]
    assert len(lost) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_request_that_gets_lost_is_made_again(when: When) -> None:
    """By another producer, since one whose send has failed takes no more; if it had arrived, the first reply to it is late."""
    playing = Playing(counted)
    playing.broker.faults.lose("produce", 1, when)
    asked = playing.ask(0, 1)
    assert (sorted(asked.replies), asked.missing) == ([0, 1], {})


def test_a_reader_that_is_cut_off_begins_anew_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a reply that came meanwhile is heard."""
    playing = Playing(counted)
    readers, opened = [], playing.broker.reader

    def noted(**options: Any) -> Any:
        readers.append(opened(**options))
        return readers[-1]

    monkeypatch.setattr(playing.broker, "reader", noted)

    async def work() -> Asked:
        await playing.asker.ask({0: ShardQuery("count")})
        playing.broker.faults.disconnect(readers[0])
        return await playing.asker.ask({0: ShardQuery("count")})

    assert sorted(playing.run(work).replies) == [0]
    assert len(readers) == 3


def test_no_more_is_waited_for_than_allowed() -> None:
    playing = Playing(counted, ShardSettings(pending_max=1))
    with pytest.raises(IndexUnavailableError, match="pending_max"):
        playing.ask(0, 1)


def test_a_reply_in_a_transaction_that_hangs_is_heard() -> None:
    """Whose worker died: it would hold up all replies behind it until it has timed out, if it were waited for."""
    playing = Playing(lambda *at: [])

    async def work() -> Asked:
        asking = asyncio.ensure_future(playing.asker.ask({0: ShardQuery("count")}))
        await playing.heard.wait()
        producer = playing.broker.producer(transactional_id="dead")
        await producer.start()
        await producer.begin()
        ((key, value),) = write_reply(b"me", "me:1", ShardReply(0, 7))
        target = Partition(TOPICS.shard_hits, (murmur2(b"me") & 0x7FFFFFFF) % 3)
        await (await producer.send(target, Records(large_binary([key]), large_binary([value]))))
        return await asking

    assert sorted(playing.run(work).replies) == [0]


def test_a_reply_that_no_record_can_hold_says_so() -> None:
    many = tuple(Candidate("d" * 4_000 + str(n), 0.5, 0.5, True, True) for n in range(300))
    ((_, value),) = write_reply(b"me", "1", ShardReply(0, candidates=many))
    assert "ask for fewer (pool_chunks, k)" in orjson.loads(value or b"")["wrong"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": 3}, "$.id"),
        ({"ask": "everything"}, "$.ask"),
        ({"vector": "no base64!"}, "$.vector"),
        ({"vector": "AADAfw=="}, "finite"),
        ({"pool": -1}, "$.pool"),
        ({"keys": [1]}, "$.keys"),
        ({"after": "x"}, "$.after"),
        ({"filter": 3}, "$.filter"),
        ({"counts": {"chunks": -3}}, "$.chunks"),
    ],
)
def test_a_request_that_is_none_is_told_by_its_field(change: dict, told: str) -> None:
    sent = orjson.loads(write_request(ShardQuery("find", "1", "lamp")))
    with pytest.raises(MessageError, match=told.replace("$", "[$]")):
        read_request(orjson.dumps(sent | change))
