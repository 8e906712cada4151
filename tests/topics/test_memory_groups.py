"""Consumer groups of the memory broker under random lives and deaths: what must be so when all is quiet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.topics.batch import Partition
from millstream.topics.broker import Committed, TopicSpec
from millstream.topics.errors import BrokerUnavailableError, DuplicateMemberError, FencedError
from millstream.topics.memory import MemoryBroker, MemoryClock, MemorySettings
from millstream.topics.memory.consumer import MemoryGroupConsumer
from tests.contracts.broker_tools import Heard, InTurn

EVERYTHING = [Partition("a", index) for index in range(5)]
NAMES = st.sampled_from("wxyz")  # w and x are static, y and z dynamic
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["start", "stop", "leave", "cut", "heal", "rejoin", "commit"]), NAMES),
        st.tuples(st.just("pass"), st.sampled_from([1, 2_000, 3_000, 10_000])),
        st.tuples(st.just("settle"), st.none()),
    ),
    max_size=25,
)


@dataclass
class Processes:
    """At most one living process a name."""

    broker: MemoryBroker
    living: dict[str, tuple[MemoryGroupConsumer, Heard]] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)

    async def do(self, what: str, name: str) -> None:
        if what == "start" and name not in self.living:
            heard = Heard()
            consumer = self.broker.consumer(
                group="g",
                topics=["a"],
                assignor=InTurn(name.encode()),
                listener=heard,
                instance_id=name if name in "wx" else None,
            )
            self.living[name] = consumer, heard
            await consumer.start()
        elif name in self.living:
            await self._do(what, name, *self.living[name])

    async def _do(self, what: str, name: str, consumer: MemoryGroupConsumer, heard: Heard) -> None:
        if what in ("stop", "leave"):
            if what == "leave":
                await consumer.leave()
            await consumer.stop()
            del self.living[name]
            self.cut.discard(name)
        elif what == "cut":
            self.broker.faults.disconnect(consumer)
            self.cut.add(name)
        elif what == "heal":
            self.broker.faults.reconnect(consumer)
            self.cut.discard(name)
        elif what == "rejoin":
            consumer.request_rejoin()
        elif what == "commit":
            await self.commit(consumer, heard)

    async def commit(self, consumer: MemoryGroupConsumer, heard: Heard) -> None:
        """Who does not own in the newest generation is refused."""
        before = self.current(consumer, heard)
        try:
            await consumer.commit({partition: Committed(1) for partition in heard.owned})
        except (FencedError, BrokerUnavailableError):
            after = self.current(consumer, heard)
            assert not (before and after) or self.broker.faults.is_cut_off(consumer)
        else:
            assert before or self.current(consumer, heard)  # the news may have come while the request was under way

    def current(self, consumer: MemoryGroupConsumer, heard: Heard) -> bool:
        group = self.broker._cluster.group("g")
        return heard.generation == group.generation and consumer._member in group.members.values()


async def settle() -> None:
    for _ in range(60):
        await asyncio.sleep(0)


def alternate(heard: Heard) -> bool:
    """Assigned, revoked, assigned, ...: nothing is assigned to who still owns something."""
    kinds = [kind for kind, _ in heard.events]
    owned: frozenset[Partition] = frozenset()
    for kind, partitions in heard.events:
        if kind == "revoked":
            if partitions != owned:
                return False
            owned = frozenset()
        else:
            if owned:
                return False
            owned = partitions
    return not kinds or kinds[0] == "assigned"


async def live(operations: list[tuple[str, object]]) -> None:
    settings = MemorySettings(session_timeout_ms=10_000, rebalance_timeout_ms=3_000)
    broker = MemoryBroker(clock=MemoryClock(now_ms=0), settings=settings)
    await broker.create_topics([TopicSpec("a", len(EVERYTHING))])
    processes = Processes(broker)
    for what, which in operations:
        if what == "pass":
            assert isinstance(which, int)
            broker.clock.advance(which)
        elif what == "settle":
            await settle()
        else:
            await processes.do(what, str(which))
    for name in list(processes.cut):
        await processes.do("heal", name)
    for _ in range(4):  # sessions of the dead and rebalances that wait for them run out
        await settle()
        broker.clock.advance(10_000)
    await settle()
    await check(processes)
    for name in list(processes.living):
        await processes.do("stop", name)


async def check(processes: Processes) -> None:
    """Each partition has one owner among the living, all of one generation, and each may commit what it owns."""
    heard = [heard for _, heard in processes.living.values()]
    for consumer, _ in processes.living.values():
        consumer.raise_if_dead()
    assert all(alternate(one) for one in heard)
    if heard:
        owned = [partition for one in heard for partition in one.owned]
        assert sorted(owned) == EVERYTHING
        assert len({one.generation for one in heard}) == 1
    for consumer, one in processes.living.values():
        await consumer.commit({partition: Committed(2) for partition in one.owned})


@given(OPERATIONS)
def test_when_all_is_quiet_every_partition_has_one_owner(operations: list[tuple[str, object]]) -> None:
    asyncio.run(live(operations))


async def test_two_processes_of_one_instance_id_do_not_take_turns() -> None:
    """The later one stays, however often the earlier one is cut off and healed."""
    broker = MemoryBroker(clock=MemoryClock(now_ms=0))
    await broker.create_topics([TopicSpec("a", 1)])
    heard = [Heard(), Heard()]
    one, two = (
        broker.consumer(group="g", topics=["a"], assignor=InTurn(), listener=each, instance_id="same") for each in heard
    )
    await one.start()
    await two.start()
    for _ in range(3):
        broker.faults.disconnect(one)
        broker.clock.advance(5_000)
        broker.faults.reconnect(one)
        await settle()
    assert heard[1].owned == {Partition("a", 0)}
    two.raise_if_dead()
    with pytest.raises(DuplicateMemberError):
        one.raise_if_dead()
    await one.stop()
    await two.stop()
