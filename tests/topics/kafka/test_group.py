"""Group membership on a real Kafka: static members, twins, listeners that raise, commits of a generation that is over."""

from __future__ import annotations

import pytest

from millstream.topics.batch import Partition
from millstream.topics.broker import Committed
from millstream.topics.errors import ConfigurationError, DuplicateMemberError, FencedError, TopicsError
from millstream.topics.kafka import KafkaBroker
from tests.topics.kafka.conftest import Heard, Spread, records, until

pytestmark = pytest.mark.kafka


@pytest.fixture
def join(broker, unique):
    async def start(topic, *, instance_id=None, listener=None, assignor=None, at=broker):
        heard = listener or Heard()
        consumer = at.consumer(
            group=unique("g"), topics=[topic], assignor=assignor or Spread(), listener=heard, instance_id=instance_id
        )
        await consumer.start()
        return consumer, heard

    return start


async def test_two_processes_with_one_instance_id_the_older_is_told(kafka, make_topic, join):
    topic = await make_topic(partitions=2)
    older, heard = await join(topic, instance_id="twin")
    await until(lambda: heard.owned)
    older.raise_if_dead()
    other = KafkaBroker({"bootstrap.servers": kafka})
    await other.start()
    newer, heard_newer = await join(topic, instance_id="twin", at=other)
    await until(lambda: heard_newer.owned)

    def is_dead():
        try:
            older.raise_if_dead()
        except DuplicateMemberError as error:
            return "group.instance.id 'twin'" in str(error)
        return False

    await until(is_dead)
    with pytest.raises(DuplicateMemberError):
        await older.poll(timeout_ms=10_000, records_max=1)
    newer.raise_if_dead()
    await older.stop()
    newer.raise_if_dead()
    assert heard_newer.owned == {Partition(topic, 0), Partition(topic, 1)}
    await newer.leave()
    await newer.stop()
    await other.stop()


async def test_a_static_member_that_comes_back_gets_its_partitions_without_a_rebalance(make_topic, join):
    topic = await make_topic(partitions=2)
    first, heard_first = await join(topic, instance_id="a")
    second, heard_second = await join(topic, instance_id="b")
    await until(lambda: len(heard_first.owned) == 1 and len(heard_second.owned) == 1)
    told = len(heard_first.told)
    generation, owned = heard_second.generation, heard_second.owned
    await second.stop()
    second, heard_second = await join(topic, instance_id="b")
    await until(lambda: heard_second.owned)
    assert (generation, owned) == (heard_second.generation, heard_second.owned)
    assert told == len(heard_first.told)
    await second.leave()
    await second.stop()
    await until(lambda: len(heard_first.owned) == 2)
    await first.leave()
    await first.stop()


async def test_a_static_member_whose_session_expired_joins_anew(make_topic, join):
    """It asks with its old member id, is told it is unknown, and joins as if it were new: it is no duplicate."""
    topic = await make_topic()
    consumer, heard = await join(topic, instance_id="a")
    await until(lambda: heard.owned)
    coordinator = consumer._coordinator
    await coordinator.leave()  # the broker forgets the member, as after a session timeout
    coordinator.generation = heard.generation
    coordinator.reset_generation()
    await until(lambda: ("assigned", frozenset({Partition(topic, 0)})) in heard.told[2:])
    consumer.raise_if_dead()
    await consumer.leave()
    await consumer.stop()


@pytest.mark.parametrize("what", ["revoked", "assigned"])
async def test_a_listener_that_raises_ends_the_membership_audibly(make_topic, join, what):
    class Raises(Heard):
        pass

    async def fail(self, *_):
        raise ValueError("full disk")

    setattr(Raises, what, fail)
    consumer, _ = await join(await make_topic(), listener=Raises())
    await until(lambda: consumer._coordinator.dead)
    with pytest.raises(TopicsError, match=rf"{what}\(\) raised ValueError\('full disk'\)"):
        consumer.raise_if_dead()
    await consumer.stop()


async def test_an_assignor_that_raises_ends_the_membership_audibly(make_topic, join):
    class Refuses(Spread):
        def assign(self, members, partition_counts):
            raise ConfigurationError("members have different shards: 4 and 8")

    consumer, _ = await join(await make_topic(), assignor=Refuses())
    await until(lambda: consumer._coordinator.dead)
    with pytest.raises(ConfigurationError, match="different shards"):
        await consumer.poll(timeout_ms=10_000, records_max=1)
    await consumer.stop()


async def test_a_missing_topic_is_said_at_the_start(kafka, unique, join):
    impatient = KafkaBroker({"bootstrap.servers": kafka, "request.timeout.ms": 300, "rebalance.timeout.ms": 1})
    with pytest.raises(ConfigurationError, match="does not exist; create it first"):
        await join(unique("nowhere"), at=impatient)


async def test_commits_of_a_generation_that_is_over_are_refused(make_topic, join):
    topic = await make_topic()
    place = Partition(topic, 0)
    consumer, heard = await join(topic, instance_id="a")
    await until(lambda: heard.owned)
    await consumer.commit({place: Committed(3, "w")})
    consumer._coordinator.generation -= 1
    with pytest.raises(FencedError):
        await consumer.commit({place: Committed(4)})
    assert {place: Committed(3, "w")} == await consumer.committed([place])
    await consumer.leave()
    await consumer.stop()


async def test_commits_after_leaving_are_refused_here(make_topic, join):
    """The broker would take a commit without a generation for one from outside the group."""
    topic = await make_topic()
    consumer, heard = await join(topic, instance_id="a")
    await until(lambda: heard.owned)
    await consumer.leave()
    with pytest.raises(FencedError, match="not in the group any more"):
        await consumer.commit({Partition(topic, 0): Committed(4)})
    await consumer.stop()


async def test_a_rejoin_may_be_asked_for(make_topic, join):
    topic = await make_topic()
    consumer, heard = await join(topic, instance_id="a")
    await until(lambda: heard.owned)
    generation = heard.generation
    consumer.request_rejoin()
    await until(lambda: heard.generation > generation)
    assert ["revoked", "assigned", "revoked", "assigned"] == [what for what, _ in heard.told]
    await consumer.leave()
    await consumer.stop()


async def test_nothing_is_read_before_it_was_sought(broker, make_topic, join):
    topic = await make_topic(partitions=2)
    producer = broker.producer()
    await producer.start()
    for index in range(2):
        await (await producer.send(Partition(topic, index), records(b"x")))
    await producer.stop()
    consumer, heard = await join(topic)
    await until(lambda: heard.owned)
    consumer.seek(Partition(topic, 1), 0)
    fetches = []
    while not fetches:
        fetches = await consumer.poll(timeout_ms=1_000, records_max=10)
    assert [Partition(topic, 1)] == [fetch.partition for fetch in fetches]
    with pytest.raises(ConfigurationError, match="no position yet"):
        consumer.position(Partition(topic, 0))
    await consumer.stop()
