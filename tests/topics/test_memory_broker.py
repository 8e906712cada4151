"""What the memory broker has beyond the contract: time that is moved by hand, groups, compaction on demand."""

from __future__ import annotations

import asyncio

import pytest

from millstream.topics.batch import Partition
from millstream.topics.broker import Committed, TopicSpec
from millstream.topics.errors import (
    AbortableError,
    BrokerUnavailableError,
    ConfigurationError,
    DuplicateMemberError,
    FencedError,
    RecordTooLargeError,
)
from millstream.topics.memory import MemoryBroker, MemoryClock, MemorySettings
from tests.contracts.broker_tools import Heard, read_to_end, records, started, values_in, write
from tests.topics.memory_run import A, B, member, standing_broker, transaction, turns


@pytest.fixture
async def broker() -> MemoryBroker:
    """Time stands still at 1,000,000 ms; one topic of two partitions."""
    return await standing_broker()


async def test_records_have_the_clocks_time(broker: MemoryBroker) -> None:
    await write(broker, A, b"x")
    broker.clock.advance(250)
    await write(broker, A, b"y")
    [fetch] = await read_to_end(broker, A)
    assert fetch.timestamps.tolist() == [1_000_000, 1_000_250]


async def test_a_poll_waits_until_there_is_a_record_or_the_time_has_passed(broker: MemoryBroker) -> None:
    async with started(broker.reader()) as reader:
        reader.assign({A: 0})
        assert len(await reader.poll(timeout_ms=0, records_max=10)) == 1  # caught up
        polling = asyncio.create_task(reader.poll(timeout_ms=100, records_max=10))
        await turns()
        broker.clock.advance(99)
        await turns()
        assert not polling.done()
        broker.clock.advance(1)
        assert await polling == []
        polling = asyncio.create_task(reader.poll(timeout_ms=100, records_max=10))
        await turns()
        await write(broker, A, b"x")
        [fetch] = await polling
        assert list(fetch.values) == [b"x"]


async def test_a_clock_runs_what_is_due_in_order(broker: MemoryBroker) -> None:
    clock, seen = MemoryClock(now_ms=0), []
    clock.call_after(20, lambda: seen.append((20, clock.now_ms)))
    clock.call_after(10, lambda: seen.append((10, clock.now_ms)))
    clock.call_after(10, lambda: seen.append((11, clock.now_ms)))
    clock.call_after(15, lambda: seen.append((15, clock.now_ms))).cancel()
    clock.call_after(31, lambda: seen.append((31, clock.now_ms)))
    clock.advance(30)
    assert seen == [(10, 10), (11, 10), (20, 20)]
    assert clock.now_ms == 30
    with pytest.raises(ValueError, match="forward only"):
        clock.advance(-1)


async def test_a_running_clock_can_be_put_forward() -> None:
    clock, woken = MemoryClock(), asyncio.Event()
    before = clock.now_ms
    clock.call_after(3_600_000, woken.set)
    clock.advance(3_600_000)
    assert woken.is_set()
    assert clock.now_ms >= before + 3_600_000
    clock.call_after(3_600_000, woken.clear)
    clock.advance(3_599_999)
    event: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    assert not await clock.wait(event, 2)
    assert not woken.is_set()


async def test_timers_that_are_over_are_not_kept(broker: MemoryBroker) -> None:
    """A poll that is woken before its time leaves nothing behind, though the time stands still."""
    for _ in range(1_000):
        broker.clock.call_after(100, broker.faults.clear).cancel()
    assert len(broker.clock._timers) <= 64


async def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced(broker: MemoryBroker) -> None:
    async with started(broker.producer(transactional_id="t")) as producer:
        await producer.begin()
        await (await producer.send(A, records(b"never")))
        broker.clock.advance(59_999)
        async with started(broker.reader()) as reader:
            assert await reader.end_offsets([A]) == {A: 0}
            broker.clock.advance(1)
            assert await reader.end_offsets([A]) == {A: 2}
        with pytest.raises(FencedError):
            await producer.commit()


async def test_a_transaction_in_time_has_no_more_deadline(broker: MemoryBroker) -> None:
    async with started(broker.producer(transactional_id="t")) as producer:
        for _ in range(3):
            await producer.begin()
            await producer.send(A, records(b"x"))
            await producer.commit()
            broker.clock.advance(59_000)


async def test_committed_does_not_wait_for_ever(broker: MemoryBroker) -> None:
    heard = Heard()
    async with started(member(broker, heard)) as consumer, started(broker.producer(transactional_id="t")) as producer:
        await producer.begin()
        await producer.send_offsets("g", {A: Committed(1)})
        asked = asyncio.create_task(consumer.committed([A]))
        assert await consumer.committed([B]) == {}
        broker.clock.advance(30_000)
        with pytest.raises(BrokerUnavailableError, match="does not end"):
            await asked


# -- members that are cut off ------------------------------------------------------------------------------------------


async def test_a_member_that_is_cut_off_loses_its_share_when_its_session_is_over(broker: MemoryBroker) -> None:
    """As a zombie it may commit nothing; connected again it hears that all was lost, and joins anew."""
    first, second = Heard(), Heard()
    async with (
        started(member(broker, first, data=b"1")),
        started(member(broker, second, data=b"2")) as zombie,
    ):
        await second.owns([B])
        broker.faults.disconnect(zombie)
        broker.clock.advance(9_999)
        await turns()
        assert first.owned == {A}
        broker.clock.advance(1)
        await first.owns([A, B])
        assert second.owned == {B}
        with pytest.raises(BrokerUnavailableError):
            await zombie.commit({B: Committed(1)})
        broker.faults.reconnect(zombie)
        with pytest.raises(FencedError):
            await zombie.commit({B: Committed(1)})
        await second.until(lambda: second.events[-2:] == [("revoked", frozenset([B])), ("assigned", frozenset([B]))])
        await zombie.commit({B: Committed(1)})
        await first.owns([A])


async def test_a_member_that_is_back_in_time_keeps_its_share(broker: MemoryBroker) -> None:
    heard = Heard()
    async with started(member(broker, heard)) as consumer:
        await heard.owns([A, B])
        for _ in range(3):
            broker.faults.disconnect(consumer)
            broker.clock.advance(9_000)
            broker.faults.reconnect(consumer)
        await turns()
        assert heard.events == [("assigned", frozenset([A, B]))]
        await consumer.commit({A: Committed(1)})


async def test_a_rebalance_goes_on_without_a_dynamic_member_that_does_not_join_in_time(broker: MemoryBroker) -> None:
    settings = MemorySettings(session_timeout_ms=60_000, rebalance_timeout_ms=5_000)
    slow_broker = MemoryBroker(clock=MemoryClock(now_ms=0), settings=settings)
    await slow_broker.create_topics([TopicSpec("a", 2)])
    first, second = Heard(), Heard()
    async with started(member(slow_broker, first)) as silent:
        await first.owns([A, B])
        slow_broker.faults.disconnect(silent)
        async with started(member(slow_broker, second)):
            await turns()
            assert second.generation == -1
            slow_broker.clock.advance(5_000)
            await second.owns([A, B])


async def test_a_static_member_that_stopped_keeps_its_place_until_its_session_is_over(broker: MemoryBroker) -> None:
    first, second = Heard(), Heard()
    async with started(member(broker, first, data=b"1")):
        stopping = member(broker, second, instance="two", data=b"2")
        await stopping.start()
        await second.owns([B])
        await stopping.stop()
        with pytest.raises(ConfigurationError, match="2 members"):
            await broker.delete_group("g")
        broker.clock.advance(9_999)
        await turns()
        assert first.owned == {A}
        broker.clock.advance(1)
        await first.owns([A, B])


async def test_a_zombie_learns_that_its_instance_id_was_taken(broker: MemoryBroker) -> None:
    """Only once it is connected again."""
    first, second = Heard(), Heard()
    async with started(member(broker, first, instance="same")) as zombie:
        await first.owns([A, B])
        broker.faults.disconnect(zombie)
        async with started(member(broker, second, instance="same")):
            await second.owns([A, B])
            await turns()
            zombie.raise_if_dead()
            broker.faults.reconnect(zombie)
            await turns()
            with pytest.raises(DuplicateMemberError):
                zombie.raise_if_dead()
            assert second.owned == {A, B}


async def test_a_lost_join_is_tried_again(broker: MemoryBroker) -> None:
    heard = Heard()
    async with started(member(broker, heard)) as consumer:
        await heard.owns([A, B])
        broker.faults.lose("join")
        broker.faults.lose("join", 2, when="after")
        consumer.request_rejoin()
        await heard.until(lambda: heard.generation == 2)
        await turns()
        assert heard.owned == {A, B}


async def test_a_topic_that_was_made_anew_is_dealt_out_anew(broker: MemoryBroker) -> None:
    heard = Heard()
    async with started(member(broker, heard)) as consumer:
        await heard.owns([A, B])
        await consumer.commit({A: Committed(3)})
        await broker.delete_topics(["a"])
        await heard.owns([])
        await broker.create_topics([TopicSpec("a", 1)])
        await heard.owns([A])
        assert await consumer.committed([A]) == {}


# -- compaction, limits, sameness ------------------------------------------------------------------------------------------


async def test_compaction_keeps_the_last_of_each_key_with_its_offset(broker: MemoryBroker) -> None:
    await broker.create_topics([TopicSpec("t", 1, cleanup="compact")])
    partition = Partition("t", 0)
    await write(broker, partition, b"1", b"2", None, b"4", b"5", keys=[b"a", b"b", b"b", b"c", b"a"])
    broker.compact("t")
    [fetch] = await read_to_end(broker, partition)
    assert list(zip(fetch.offsets.tolist(), fetch.keys, fetch.values, strict=True)) == [
        (2, b"b", None),
        (3, b"c", b"4"),
        (4, b"a", b"5"),
    ]
    broker.compact("t", keep_tombstones=False)
    [fetch] = await read_to_end(broker, partition)
    assert fetch.offsets.tolist() == [3, 4]
    with pytest.raises(ConfigurationError, match="does not exist"):
        broker.compact("missing")


async def test_a_compacted_topic_takes_no_null_key(broker: MemoryBroker) -> None:
    await broker.create_topics([TopicSpec("t", 1, cleanup="compact")])
    async with started(broker.producer()) as producer:
        with pytest.raises(ConfigurationError, match="takes no record without a key"):
            await (await producer.send(Partition("t", 0), records(b"x")))


async def test_a_topic_can_take_less_than_the_client_would_send(broker: MemoryBroker) -> None:
    """Then it is the broker that refuses: the transaction must be aborted."""
    await broker.create_topics([TopicSpec("small", 1, config={"max.message.bytes": "1000"})])
    async with started(broker.producer(transactional_id="t")) as producer:
        await producer.begin()
        sent = await producer.send(Partition("small", 0), records(b"fits", b"x" * 1_000))
        with pytest.raises(RecordTooLargeError) as caught:
            await sent
        assert caught.value.rows == (1,)
        with pytest.raises(AbortableError):
            await producer.commit()
        await producer.abort()


async def test_metadata_of_offsets_has_a_limit(broker: MemoryBroker) -> None:
    heard = Heard()
    async with started(member(broker, heard)) as consumer:
        await heard.owns([A, B])
        with pytest.raises(ConfigurationError, match="at most 4096 bytes"):
            await consumer.commit({A: Committed(1, "x" * 4_097)})


async def test_send_waits_while_the_buffer_is_full() -> None:
    broker = MemoryBroker(settings=MemorySettings(buffer_bytes_max=100))
    await broker.create_topics([TopicSpec("a", 1)])
    async with started(broker.producer()) as producer:
        for number in range(20):
            await producer.send(A, records(b"%050d" % number))
    assert await values_in(broker, A) == [b"%050d" % number for number in range(20)]


async def test_two_runs_are_the_same() -> None:
    """Under a standing clock: same calls, same events in the same order."""

    async def run() -> list[object]:
        broker = MemoryBroker(clock=MemoryClock(now_ms=0))
        await broker.create_topics([TopicSpec("a", 2)])
        first, second = Heard(), Heard()
        async with started(member(broker, first, data=b"1")) as one, started(member(broker, second, data=b"2")) as two:
            await second.owns([B])
            await first.owns([A])
            one.seek(A, 0)
            two.seek(B, 0)
            await transaction(broker)
            polled = await asyncio.gather(*(each.poll(timeout_ms=10, records_max=9) for each in (one, two)))
            broker.faults.disconnect(two)
            broker.clock.advance(10_000)
            await first.owns([A, B])
        fetches = [(fetch.partition, fetch.first_offset, list(fetch.values)) for some in polled for fetch in some]
        return [first.events, second.events, fetches, sorted(broker.faults.seen.items())]

    assert await run() == await run()
