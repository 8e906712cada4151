"""A cluster that cannot be reached: which step failed is said, and what to look at."""

from __future__ import annotations

import asyncio
import socket

import pytest

from millstream.topics.batch import Partition
from millstream.topics.broker import Committed, TopicSpec
from millstream.topics.errors import AuthorizationError, BrokerUnavailableError, ConfigurationError, TopicsError
from millstream.topics.kafka import KafkaBroker
from tests.topics.kafka.conftest import Heard, Spread, records


async def refusal(settings) -> TopicsError:
    broker = KafkaBroker(settings)
    with pytest.raises(TopicsError) as caught:
        await broker.start()
    assert "password" not in str(caught.value).replace("sasl.password", "")
    return caught.value


@pytest.fixture
def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


async def test_nothing_listens(free_port):
    error = await refusal({"bootstrap.servers": f"127.0.0.1:{free_port}"})
    assert isinstance(error, BrokerUnavailableError)
    assert "no TCP connection" in str(error)
    assert "is the broker running" in str(error)


async def test_several_addresses_are_all_named(free_port):
    error = await refusal({"bootstrap.servers": f"127.0.0.1:{free_port},localhost:{free_port}"})
    assert f"127.0.0.1:{free_port}" in str(error)
    assert f"localhost:{free_port}" in str(error)


async def test_something_listens_that_is_not_kafka():
    async def hang_up(reader, writer):
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    error = await refusal({"bootstrap.servers": f"127.0.0.1:{server.sockets[0].getsockname()[1]}"})
    server.close()
    assert isinstance(error, ConfigurationError)
    assert "is it a Kafka port at all?" in str(error)


@pytest.mark.kafka
async def test_tls_to_a_port_without_tls(kafka):
    error = await refusal({"bootstrap.servers": kafka, "security.protocol": "SSL"})
    assert isinstance(error, ConfigurationError)
    assert "does this port speak TLS at all?" in str(error)


@pytest.mark.kafka
async def test_sasl_to_a_port_without_sasl(kafka):
    user = {"sasl.username": "u", "sasl.password": "p"}
    error = await refusal({"bootstrap.servers": kafka, "security.protocol": "SASL_PLAINTEXT"} | user)
    assert isinstance(error, ConfigurationError)


@pytest.mark.kafka
@pytest.mark.slow
class TestSecured:
    """SASL_SSL with SCRAM-SHA-512 and ACLs."""

    async def test_each_wrong_setting_is_told_from_the_others(self, secured_kafka):
        right = dict(secured_kafka.security) | {"bootstrap.servers": secured_kafka.bootstrap}
        wrong: list[tuple[dict[str, str | None], type[TopicsError], str]] = [
            ({"sasl.password": "no"}, AuthorizationError, "refuses user 'admin'"),
            ({"sasl.mechanism": "PLAIN"}, ConfigurationError, "sasl.mechanism PLAIN is not offered"),
            ({"ssl.ca.location": None}, AuthorizationError, "certificate is not trusted"),
        ]
        for change, kind, said in wrong:
            error = await refusal({name: value for name, value in (right | change).items() if value is not None})
            assert (kind, True) == (type(error), said in str(error)), error
        plain = await refusal({"bootstrap.servers": secured_kafka.bootstrap})
        assert isinstance(plain, ConfigurationError)
        assert "it answers in TLS" in str(plain)

    async def test_the_right_settings_work_end_to_end(self, secured_kafka, unique):
        broker = KafkaBroker(dict(secured_kafka.security) | {"bootstrap.servers": secured_kafka.bootstrap})
        await broker.start()
        place = Partition(unique("t"), 0)
        await broker.create_topics([TopicSpec(place.topic, 1)])
        producer = broker.producer(transactional_id=unique("id"))
        await producer.start()
        await producer.begin()
        await producer.send(place, records(b"x"))
        await producer.send_offsets(unique("g"), {place: Committed(5)})
        await producer.commit()
        await producer.stop()
        await producer.start()  # from then on the offsets of the last commit are visible
        await producer.stop()
        assert {place: Committed(5)} == await broker.group_offsets(unique("g"))
        reader = broker.reader()
        await reader.start()
        reader.assign({place: 0})
        assert [[b"x"]] == [list(fetch.values) for fetch in await reader.poll(timeout_ms=10_000, records_max=1)]
        await reader.stop()
        await broker.stop()

    async def test_a_user_without_rights_is_refused_everywhere(self, secured_kafka, unique):
        admin = KafkaBroker(dict(secured_kafka.security) | {"bootstrap.servers": secured_kafka.bootstrap})
        await admin.start()
        topic = unique("closed")
        await admin.create_topics([TopicSpec(topic, 1)])
        await admin.stop()
        guest = KafkaBroker(dict(secured_kafka.security_of("guest")) | {"bootstrap.servers": secured_kafka.bootstrap})
        await guest.start()
        with pytest.raises(AuthorizationError):
            await guest.describe_topics([topic])
        with pytest.raises(AuthorizationError):
            await guest.create_topics([TopicSpec(unique("new"), 1)])
        with pytest.raises(AuthorizationError):
            await guest.group_offsets(unique("g"))
        with pytest.raises(AuthorizationError):
            await guest.producer(transactional_id=unique("id")).start()
        with pytest.raises(AuthorizationError):
            await self.write(guest, Partition(topic, 0))
        consumer = guest.consumer(group=unique("g"), topics=[topic], assignor=Spread(), listener=Heard())
        with pytest.raises(AuthorizationError):
            await consumer.start()
        await guest.stop()

    @staticmethod
    async def write(broker: KafkaBroker, place: Partition) -> None:
        """Who may write to some other topic (tests of this run share the users) may start a producer."""
        producer = broker.producer()
        try:
            await producer.start()
            await (await producer.send(place, records(b"x")))
        finally:
            await producer.stop()
