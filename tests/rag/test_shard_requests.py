"""Requests to shards that are replied to beside the worker: at once, from where it began, and passed over only when the reply is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from millstream.rag.shard_messages import Record
from millstream.rag.shard_requests import ShardRequests
from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.memory import MemoryBroker
from tests.crashes.virtual_time import LoopClock, run_virtually
from tests.polling import until
from tests.rag.shards import TOPICS

SHARD = 1
QUERIES, HITS = Partition(TOPICS.shard_queries, SHARD), Partition(TOPICS.shard_hits, 0)


class Serving:
    """`ShardRequests` over a broker in memory. `may_reply`: not before this is set."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(clock=LoopClock())
        self.may_reply = asyncio.Event()
        self.may_reply.set()
        self.asked: list[tuple[int, bytes | None]] = []
        self.heard = asyncio.Event()
        self.requests = ShardRequests(self.broker, TOPICS, self._replied)

    async def _replied(self, shard: int, key: bytes | None, value: bytes | None) -> Sequence[Record]:
        self.asked.append((shard, value))
        self.heard.set()
        await self.may_reply.wait()
        return [] if value is None else [(key, b"reply to " + value)]

    async def ask(self, *values: bytes | None) -> int:
        """Offset of the last."""
        producer = self.broker.producer()
        await producer.start()
        keys = large_binary([b"me"] * len(values))
        end = await (await producer.send(QUERIES, Records(keys, large_binary(list(values)))))
        await producer.stop()
        return end - 1

    async def replies(self, count: int) -> list[bytes | None]:
        """The first so many, committed or not."""
        reader, found = self.broker.reader(isolation="read_uncommitted"), []
        await reader.start()
        reader.assign({HITS: 0})
        while len(found) < count:
            for fetch in await reader.poll(timeout_ms=100, records_max=100):
                found += fetch.values
        await reader.stop()
        return found

    async def holds(self, shard: int = SHARD) -> None:
        """Until requests to it are read here."""
        self.requests.hold(shard)
        await until(lambda: asyncio.sleep(0, shard in self.requests._began))

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        async def whole() -> Any:
            await self.broker.start()
            await self.broker.create_topics([TopicSpec(TOPICS.shard_queries, 3), TopicSpec(TOPICS.shard_hits, 1)])
            task = asyncio.create_task(self.requests.run())
            try:
                return await work()
            finally:
                task.cancel()
                await asyncio.wait([task])

        return run_virtually(whole())


def test_requests_are_replied_to_without_a_worker_and_passed_over_by_one() -> None:
    serving = Serving()

    async def work() -> None:
        before = await serving.ask(b"before")
        await serving.holds()
        last = await serving.ask(b"one", None, b"two")
        assert await serving.replies(2) == [b"reply to one", b"reply to two"]
        assert await serving.requests.wait_past(SHARD, last)
        assert [serving.requests.is_past(SHARD, offset) for offset in range(before, last + 2)] == [
            *(False, True, True, True),
            False,
        ]

    serving.run(work)
    assert serving.asked == [(SHARD, b"one"), (SHARD, None), (SHARD, b"two")]
    assert serving.requests.take_counts() == {"requests_answered": 2, "requests_unreadable": 1}
    assert serving.requests.take_counts() == {}


def test_what_came_before_it_began_is_for_the_worker() -> None:
    serving = Serving()

    async def work() -> list[bool]:
        before = await serving.ask(b"before")
        await serving.holds()
        return [await serving.requests.wait_past(SHARD, before), await serving.requests.wait_past(SHARD + 1, 0)]

    assert serving.run(work) == [False, False]


def test_a_request_is_not_passed_over_before_its_reply_is_there() -> None:
    """Whose process may die in between: then its offset must not have been committed."""
    serving = Serving()

    async def work() -> bool:
        await serving.holds()
        serving.may_reply.clear()
        offset = await serving.ask(b"one")
        await serving.heard.wait()
        waiting = asyncio.ensure_future(serving.requests.wait_past(SHARD, offset))
        await asyncio.wait([waiting], timeout=60)  # of virtual time
        assert (serving.requests.is_past(SHARD, offset), waiting.done()) == (False, False)
        serving.may_reply.set()
        return await waiting

    assert serving.run(work)


@pytest.mark.parametrize("what", ["let go", "a lost reply"])
def test_who_waits_for_a_reply_that_will_not_come_is_told(what: str) -> None:
    """The shard has gone, or the broker cannot be reached: the worker replies itself; afterwards it goes on here."""
    serving = Serving()

    async def work() -> list[bytes | None]:
        await serving.holds()
        serving.may_reply.clear()
        offset = await serving.ask(b"one")
        await serving.heard.wait()
        waiting = asyncio.ensure_future(serving.requests.wait_past(SHARD, offset))
        await asyncio.sleep(0)
        if what == "let go":
            serving.requests.let_go(SHARD)
            assert not await waiting
        else:
            serving.broker.faults.lose("produce", 1, "before")
        serving.may_reply.set()
        assert not await waiting
        await serving.holds()
        await serving.ask(b"two")
        return (await serving.replies(2 if what == "let go" else 1))[-1:]

    assert serving.run(work) == [b"reply to two"]
