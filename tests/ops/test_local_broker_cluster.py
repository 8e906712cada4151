"""Three nodes go on when one is killed or stands still; the secured mode refuses who has no business there."""

from __future__ import annotations

import re
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.errors import ClusterAuthorizationFailedError, KafkaConnectionError, TopicAuthorizationFailedError
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from millstream.ops.local_broker import LocalBroker
from millstream.ops.local_broker.cluster import Plan
from millstream.ops.local_broker.process import command_line
from millstream.ops.local_broker.secured import Secrets
from tests.broker.client import create, leader, read, write

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def test_writes_go_on_after_the_leader_was_killed_and_it_comes_back(
    three_kafkas: LocalBroker, unique: Callable[[str], str]
) -> None:
    topic = unique("leader")
    create(three_kafkas.bootstrap, topic, replicas=3)
    write(three_kafkas.bootstrap, topic, [b"before"])
    first = leader(three_kafkas.bootstrap, topic)
    three_kafkas.kill(first - 1)
    write(three_kafkas.bootstrap, topic, [b"after"])
    assert leader(three_kafkas.bootstrap, topic, other_than=first) != first
    assert [pid is None for pid in three_kafkas.pids()] == [node == first for node in (1, 2, 3)]
    three_kafkas.restart()
    assert None not in three_kafkas.pids()
    assert read(three_kafkas.bootstrap, topic, 2) == [b"before", b"after"]


def test_writes_go_on_while_the_leader_stands_still(three_kafkas: LocalBroker, unique: Callable[[str], str]) -> None:
    topic = unique("paused")
    create(three_kafkas.bootstrap, topic, replicas=3)
    first = leader(three_kafkas.bootstrap, topic)
    others = ",".join(address for node, address in enumerate(three_kafkas.bootstrap.split(","), 1) if node != first)
    three_kafkas.pause(first - 1)
    try:
        write(others, topic, [b"meanwhile"])
    finally:
        three_kafkas.resume(first - 1)
    assert read(others, topic, 1) == [b"meanwhile"]


def test_a_client_with_the_password_writes_and_reads(secured_kafka: LocalBroker, unique: Callable[[str], str]) -> None:
    topic = unique("secured")
    create(secured_kafka.bootstrap, topic, security=secured_kafka.security)
    write(secured_kafka.bootstrap, topic, [b"x"], secured_kafka.security)
    assert read(secured_kafka.bootstrap, topic, 1, secured_kafka.security) == [b"x"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"sasl.password": "wrong"}, id="wrong password"),
        pytest.param({"sasl.username": "nobody"}, id="unknown user"),
        pytest.param({"sasl.mechanism": "PLAIN"}, id="mechanism not offered"),
    ],
)
def test_a_client_without_the_right_password_is_refused(change: dict[str, str], secured_kafka: LocalBroker) -> None:
    with pytest.raises(KafkaConnectionError):
        write(secured_kafka.bootstrap, "any", [b"x"], {**secured_kafka.security, **change})


def test_a_client_that_does_not_trust_the_authority_refuses_the_broker(secured_kafka: LocalBroker) -> None:
    host, port = secured_kafka.bootstrap.split(":")
    with socket.create_connection((host, int(port))) as connection, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(connection, server_hostname=host)


def test_the_nodes_own_listeners_want_a_certificate(secured_kafka: LocalBroker) -> None:
    plan = Plan.read(secured_kafka.directory)
    assert plan is not None
    context = ssl.create_default_context(cafile=secured_kafka.security["ssl.ca.location"])
    for port in (plan.ports[0].internal, plan.ports[0].controller):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
            pytest.raises(ssl.SSLError, match=r"(?i)certificate|alert"),
            context.wrap_socket(connection, server_hostname="127.0.0.1") as secured,
        ):
            secured.recv(1)  # in TLS 1.3 the refusal comes after the handshake


def test_a_guest_may_do_nothing_until_an_acl_says_so(secured_kafka: LocalBroker, unique: Callable[[str], str]) -> None:
    topic, guest = unique("acl"), secured_kafka.security_of("guest")
    create(secured_kafka.bootstrap, topic, security=secured_kafka.security)
    with pytest.raises(TopicAuthorizationFailedError):
        write(secured_kafka.bootstrap, topic, [b"x"], guest, idempotent=False)
    with pytest.raises(ClusterAuthorizationFailedError):  # who may write nowhere gets no producer id
        write(secured_kafka.bootstrap, topic, [b"x"], guest)
    allow(secured_kafka, topic, AclOperation.WRITE)
    write(secured_kafka.bootstrap, topic, [b"x"], guest)
    with pytest.raises(TopicAuthorizationFailedError):
        read(secured_kafka.bootstrap, topic, 1, guest)


def allow(broker: LocalBroker, topic: str, operation: AclOperation) -> None:
    """Gives the guest a right on a topic."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, **broker.security})
    binding = AclBinding(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:guest", "*", operation, AclPermissionType.ALLOW
    )
    for answer in admin.create_acls([binding]).values():
        answer.result(20)


def test_passwords_are_in_private_files_alone(secured_kafka: LocalBroker) -> None:
    passwords = [secured_kafka.security_of(user)["sasl.password"] for user in ("admin", "guest")]
    passwords.append((secured_kafka.directory / "secrets" / "store-password").read_text())
    assert len(set(passwords)) == 3
    secret = re.compile("|".join(map(re.escape, passwords)).encode())
    for path in (path for path in secured_kafka.directory.rglob("*") if path.is_file()):
        if secret.search(path.read_bytes()):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((secured_kafka.directory / "secrets").stat().st_mode) == 0o700
    (pid,) = secured_kafka.pids()
    assert pid is not None
    assert not secret.search(" ".join(command_line(pid)).encode())
    assert not secret.search(repr((secured_kafka, Secrets(secured_kafka.directory))).encode())


def test_no_file_of_arguments_stays_behind(secured_kafka: LocalBroker) -> None:
    secrets = Path(secured_kafka.directory, "secrets")
    assert not [path.name for path in secrets.rglob("*arguments*")]
