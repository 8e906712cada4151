"""Topics and groups of a real Kafka."""

from __future__ import annotations

import pytest

from millstream.topics.batch import Partition
from millstream.topics.broker import Committed, TopicSpec
from millstream.topics.ensure import ensure_topics
from millstream.topics.errors import BrokerUnavailableError, ConfigurationError, TopicMismatchError
from tests.topics.kafka.conftest import Heard, Spread, records, until, values_of

pytestmark = pytest.mark.kafka


async def test_created_described_listed_deleted(broker, unique):
    name = unique("t")
    await broker.create_topics([TopicSpec(name, 3, 1, "compact", {"retention.ms": "1000"})])
    info = (await broker.describe_topics([name, unique("other")]))[name]
    assert (name, 3, "compact", "1000") == (
        info.name,
        info.partitions,
        info.config["cleanup.policy"],
        info.config["retention.ms"],
    )
    assert name in await broker.list_topics()
    await broker.create_topics([TopicSpec(name, 5)])  # left as it is
    assert 3 == (await broker.describe_topics([name]))[name].partitions
    await broker.delete_topics([name, unique("other")])
    assert {} == await broker.describe_topics([name])
    await broker.create_topics([TopicSpec(name, 1)])
    assert info.topic_id != (await broker.describe_topics([name]))[name].topic_id


async def test_the_broker_s_defaults(broker, unique):
    await broker.create_topics([TopicSpec(unique("t"))])
    assert 1 <= (await broker.describe_topics([unique("t")]))[unique("t")].partitions


REFUSED = [
    (TopicSpec("a b", 1), "a b"),
    (TopicSpec("t", 1, config={"no.such": "1"}), "no.such"),
    (TopicSpec("t", 1, 7), "replication factor"),
    (TopicSpec("t", 1, config={"retention.ms": "soon"}), "retention.ms"),
]


@pytest.mark.parametrize(("spec", "said"), REFUSED, ids=[said for _, said in REFUSED])
async def test_what_the_broker_refuses_is_said(broker, unique, spec, said):
    named = spec if " " in spec.name else TopicSpec(unique("t"), spec.partitions, spec.replication, config=spec.config)
    with pytest.raises(ConfigurationError, match=f"(?i){said}"):
        await broker.create_topics([named])


async def test_records_before_an_offset_are_deleted(broker, make_topic):
    place = Partition(await make_topic(), 0)
    producer = broker.producer()
    await producer.start()
    await (await producer.send(place, records(b"a", b"b", b"c")))
    await producer.stop()
    await broker.delete_records({place: 2})
    reader = broker.reader()
    await reader.start()
    assert {place: 2} == await reader.begin_offsets([place])
    await reader.stop()
    with pytest.raises(ConfigurationError, match="does not exist"):
        await broker.delete_records({Partition(place.topic, 9): 1})


async def test_a_group_is_forgotten_only_when_empty(broker, make_topic, unique):
    topic = await make_topic()
    heard = Heard()
    consumer = broker.consumer(group=unique("g"), topics=[topic], assignor=Spread(), listener=heard)
    await consumer.start()
    await until(lambda: heard.owned)
    await consumer.commit({Partition(topic, 0): Committed(4, "water")})
    with pytest.raises(ConfigurationError, match="it has members; stop them first"):
        await broker.delete_group(unique("g"))
    await consumer.stop()
    assert {Partition(topic, 0): Committed(4, "water")} == await broker.group_offsets(unique("g"))
    await broker.delete_group(unique("g"))
    assert {} == await broker.group_offsets(unique("g"))
    await broker.delete_group(unique("never was"))


async def test_topics_are_ensured(broker, unique):
    specs = [TopicSpec(unique("a"), 2), TopicSpec(unique("b"), 1, cleanup="compact")]
    found = await ensure_topics(broker, specs)
    assert {unique("a"): 2, unique("b"): 1} == {name: info.partitions for name, info in found.items()}
    assert found == await ensure_topics(broker, specs, create=False)


async def test_every_mismatch_is_in_the_one_error_and_nothing_is_created(broker, unique):
    await broker.create_topics([TopicSpec(unique("a"), 2), TopicSpec(unique("b"), 1)])
    specs = [TopicSpec(unique("a"), 4), TopicSpec(unique("b"), 1, cleanup="compact"), TopicSpec(unique("c"), 1)]
    with pytest.raises(TopicMismatchError) as caught:
        await ensure_topics(broker, specs)
    text = str(caught.value)
    assert "has 2 partitions, declared are 4; declare partitions=2" in text
    assert "has cleanup.policy=delete, declared is 'compact'" in text
    assert unique("c") not in await broker.list_topics()
    with pytest.raises(TopicMismatchError, match="does not exist; create it with 1 partitions"):
        await ensure_topics(broker, [TopicSpec(unique("c"), 1)], create=False)


async def test_a_misspelt_topic_is_never_created_by_asking_for_it(broker, make_topic, unique):
    """Brokers create topics on demand unless told not to; all our questions tell them."""
    await make_topic()
    reader = broker.reader()
    await reader.start()
    reader._settings = type(reader._settings)(reader._settings.bootstrap_servers, request_timeout_ms=300)
    with pytest.raises(BrokerUnavailableError, match=r"does the topic exist\?"):
        await reader.end_offsets([Partition(unique("typo"), 0)])
    await reader.stop()
    assert unique("typo") not in await broker.list_topics()
    assert [] == await values_of(broker, Partition(unique("t"), 0))
