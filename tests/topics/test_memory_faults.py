"""The faults of the memory broker: every request can be lost, before and after it took effect."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from millstream.topics.broker import Committed, TopicSpec
from millstream.topics.errors import (
    AbortableError,
    AmbiguousError,
    BrokerUnavailableError,
    ConfigurationError,
)
from millstream.topics.memory import MemoryBroker, MemoryClock
from tests.contracts.broker_tools import records, started, values_in, write
from tests.topics.memory_run import A, B, standing_broker, transaction, turns


@pytest.fixture
async def broker() -> MemoryBroker:
    """Time stands still at 1,000,000 ms; one topic of two partitions."""
    return await standing_broker()


# -- commits whose outcome is not known --------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "happened"), [("before", False), ("after", True)])
async def test_a_commit_without_an_answer_may_have_happened(broker: MemoryBroker, when: str, happened: bool) -> None:
    """The producer is over; the next owner of the id finds out by reading."""
    producer = broker.producer(transactional_id="t")
    await producer.start()
    await producer.begin()
    await producer.send(A, records(b"x"))
    await producer.send_offsets("g", {A: Committed(7)})
    broker.faults.lose("commit", when=when)  # type: ignore[arg-type]
    with pytest.raises(AmbiguousError, match="may or may not have happened"):
        await producer.commit()
    with pytest.raises(AmbiguousError):
        await producer.begin()
    await producer.drop()
    async with started(broker.producer(transactional_id="t")):
        assert await values_in(broker, A) == ([b"x"] if happened else [])
        assert await broker.group_offsets("g") == ({A: Committed(7)} if happened else {})


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_abort_without_an_answer_is_not_known_either(broker: MemoryBroker, when: str) -> None:
    async with started(broker.producer(transactional_id="t")) as producer:
        await producer.begin()
        await producer.send(A, records(b"x"))
        broker.faults.lose("abort", when=when)  # type: ignore[arg-type]
        with pytest.raises(AmbiguousError):
            await producer.abort()
    async with started(broker.producer(transactional_id="t")):
        assert await values_in(broker, A) == []


async def test_a_lost_send_makes_the_transaction_one_to_abort(broker: MemoryBroker) -> None:
    """And then its work can be done again."""
    async with started(broker.producer(transactional_id="t")) as producer:
        await producer.begin()
        broker.faults.lose("produce", 2)
        sent = [await producer.send(A, records(b"%d" % number)) for number in range(3)]
        assert await sent[0] == 1
        with pytest.raises(BrokerUnavailableError, match="never arrived"):
            await sent[1]
        with pytest.raises(AbortableError):
            await producer.send_offsets("g", {A: Committed(1)})
        with pytest.raises(AbortableError):
            await producer.commit()
        await producer.abort()
        await producer.begin()
        await producer.send(A, records(b"again"))
        await producer.commit()
        await turns()
        assert await values_in(broker, A) == [b"again"]


async def test_lost_offsets_make_the_transaction_one_to_abort(broker: MemoryBroker) -> None:
    async with started(broker.producer(transactional_id="t")) as producer:
        await producer.begin()
        broker.faults.lose("send_offsets", when="after")
        with pytest.raises(AbortableError):
            await producer.send_offsets("g", {A: Committed(1)})
        with pytest.raises(AbortableError):
            await producer.commit()
        await producer.abort()
    assert await broker.group_offsets("g") == {}


async def test_a_lost_send_ends_a_producer_without_transactions(broker: MemoryBroker) -> None:
    """As an idempotent one: the sequence has a gap."""
    async with started(broker.producer()) as producer:
        broker.faults.lose("produce")
        with pytest.raises(BrokerUnavailableError):
            await (await producer.send(A, records(b"x")))
        with pytest.raises(AmbiguousError, match="drop the producer"):
            await producer.send(A, records(b"y"))


async def test_a_lost_initialisation_can_be_tried_again(broker: MemoryBroker) -> None:
    producer = broker.producer(transactional_id="t")
    for when in ("before", "after"):
        broker.faults.lose("init_producer", when=when)
        with pytest.raises(BrokerUnavailableError):
            await producer.start()
    await producer.start()
    await producer.begin()
    await producer.abort()


async def test_a_producer_that_is_dropped_loses_what_was_queued(broker: MemoryBroker) -> None:
    producer = broker.producer()
    await producer.start()
    sent = await producer.send(A, records(b"x"))
    await producer.drop()
    with pytest.raises(BrokerUnavailableError, match="dropped"):
        await sent
    await turns()
    assert await values_in(broker, A) == []


# -- points to crash at ------------------------------------------------------------------------------------------------


async def test_a_test_can_crash_before_and_after_every_request(broker: MemoryBroker) -> None:
    """Counted in one run, crashed at each in the others: all or nothing, every time."""

    class Crash(Exception):
        pass

    def crash() -> None:
        raise Crash

    await transaction(broker)
    counts = {
        request: broker.faults.seen[request] for request in ("init_producer", "produce", "send_offsets", "commit")
    }
    assert counts == {"init_producer": 1, "produce": 2, "send_offsets": 1, "commit": 1}
    points = [(request, nth) for request, count in counts.items() for nth in range(1, count + 1)]
    for request, nth in points:
        for when in ("before", "after"):
            fresh = MemoryBroker(clock=MemoryClock(now_ms=0))
            await fresh.create_topics([TopicSpec("a", 2)])
            fresh.faults.call(request, nth, when, crash)  # type: ignore[arg-type]
            with pytest.raises((Crash, AbortableError)):
                await transaction(fresh)
            async with started(fresh.producer(transactional_id="t")):
                seen = await values_in(fresh, A), await values_in(fresh, B), await fresh.group_offsets("g")
            done = (request, when) == ("commit", "after")
            assert seen == (([b"x"], [b"y"], {A: Committed(1)}) if done else ([], [], {}))


async def test_an_observer_hears_of_every_request_from_whom_it_came_and_may_stop_it(broker: MemoryBroker) -> None:
    """Before it takes effect, and after; a request that was stopped before has not happened."""
    heard: list[tuple[str, str, object]] = []

    def told(request: str, when: str, client: object) -> None:
        heard.append((request, when, client))
        if heard[-1][:2] == ("commit", "before"):
            raise BrokerUnavailableError("stopped")

    async with started(broker.producer(transactional_id="t")) as producer:
        broker.faults.observe(told)
        await producer.begin()
        await producer.send(A, records(b"x"))
        with pytest.raises(AmbiguousError):
            await producer.commit()
    assert heard == [("produce", "before", producer), ("produce", "after", producer), ("commit", "before", producer)]
    assert await values_in(broker, A) == []


async def test_a_client_that_is_cut_off_stays_so_and_nobody_else_is(broker: MemoryBroker) -> None:
    """Also when nobody holds it any more, and the next client gets its place in memory."""
    for _ in range(20):
        broker.faults.disconnect(broker.producer())
        async with started(broker.producer()) as producer:
            await (await producer.send(A, records(b"x")))


@pytest.mark.parametrize(
    ("kind", "ask"),
    [
        ("metadata", lambda broker: broker.list_topics()),
        ("create_topics", lambda broker: broker.create_topics([TopicSpec("b")])),
        ("delete_topics", lambda broker: broker.delete_topics(["b"])),
        ("delete_records", lambda broker: broker.delete_records({A: 0})),
        ("group_offsets", lambda broker: broker.group_offsets("g")),
        ("delete_group", lambda broker: broker.delete_group("g")),
    ],
)
async def test_any_request_can_be_lost(broker: MemoryBroker, kind: str, ask: Callable[[MemoryBroker], object]) -> None:
    broker.faults.lose(kind, 2)  # type: ignore[arg-type]
    await ask(broker)  # type: ignore[misc]
    with pytest.raises(BrokerUnavailableError, match=f"a {kind} request never arrived"):
        await ask(broker)  # type: ignore[misc]
    await ask(broker)  # type: ignore[misc]


async def test_reads_can_be_lost_and_tried_again(broker: MemoryBroker) -> None:
    await write(broker, A, b"x")
    async with started(broker.reader()) as reader:
        reader.assign({A: 0})
        broker.faults.lose("fetch")
        broker.faults.lose("list_offsets")
        with pytest.raises(BrokerUnavailableError):
            await reader.poll(timeout_ms=0, records_max=10)
        with pytest.raises(BrokerUnavailableError):
            await reader.end_offsets([A])
        [fetch] = await reader.poll(timeout_ms=0, records_max=10)
        assert list(fetch.values) == [b"x"]


async def test_a_broker_that_is_unreachable_answers_nobody(broker: MemoryBroker) -> None:
    broker.faults.unreachable = True
    with pytest.raises(BrokerUnavailableError, match="unreachable"):
        await broker.start()
    broker.faults.clear()
    await broker.start()


@pytest.mark.parametrize(("request_", "nth", "said"), [("comit", 1, "no request 'comit'"), ("commit", 0, "number 1")])
async def test_a_fault_that_cannot_be_is_refused(broker: MemoryBroker, request_: str, nth: int, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        broker.faults.lose(request_, nth)  # type: ignore[arg-type]


# -- time --------------------------------------------------------------------------------------------------------------
