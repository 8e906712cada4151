"""Settings by Kafka's names: what is understood, what is refused and how it is said."""

from __future__ import annotations

import pytest

from millstream.topics.errors import ConfigurationError
from millstream.topics.kafka import KafkaBroker, KafkaSettings

AT = {"bootstrap.servers": "b:9092"}


def test_kafka_names_are_understood():
    settings = KafkaSettings.of(
        AT
        | {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "u",
            "sasl.password": "hidden",
            "session.timeout.ms": "20000",
            "check.crcs": "false",
        }
    )
    assert ("SASL_SSL", "SCRAM-SHA-512", "u", 20_000, False) == (
        settings.security_protocol,
        settings.sasl_mechanism,
        settings.sasl_username,
        settings.session_timeout_ms,
        settings.check_crcs,
    )
    assert (True, True) == (settings.uses_sasl, settings.uses_tls)


def test_several_servers_may_be_a_list():
    assert "a:1,b:2" == KafkaSettings.of({"bootstrap.servers": ["a:1", "b:2"]}).bootstrap_servers


REFUSED = [
    ({}, "'bootstrap.servers' is missing"),
    (AT | {"bootstrap.server": "x"}, "did you mean 'bootstrap.servers'"),
    (AT | {"sasl_username": "x"}, "did you mean 'sasl.username'"),
    (AT | {"linger": 5}, "no Kafka setting 'linger'. There are: bootstrap.servers"),
    (AT | {"security.protocol": "TLS"}, "expected one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL, got 'TLS'"),
    (AT | {"session.timeout.ms": "soon"}, "expected a whole number, got 'soon'"),
    (AT | {"session.timeout.ms": 0}, "must be at least 1, got 0"),
    (AT | {"check.crcs": "perhaps"}, "expected true or false"),
    (AT | {"client.id": ""}, "got an empty text"),
    (AT | {"security.protocol": "SASL_SSL"}, "needs 'sasl.username' and 'sasl.password'"),
    (AT | {"sasl.username": "u", "sasl.password": "p"}, "but security.protocol is PLAINTEXT"),
    (AT | {"ssl.key.location": "k.pem"}, "needs 'ssl.certificate.location'"),
    (AT | {"heartbeat.interval.ms": 9_000}, "more than a third of session.timeout.ms 10000"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_cannot_be_is_refused(given, said):
    with pytest.raises(ConfigurationError) as caught:
        KafkaSettings.of(given)
    assert said in str(caught.value)


def test_passwords_are_never_shown():
    given = AT | {
        "security.protocol": "SASL_SSL",
        "sasl.username": "u",
        "sasl.password": "hidden-1",
        "ssl.key.password": "hidden-2",
    }
    settings = KafkaSettings.of(given)
    assert "hidden" not in repr(settings) + str(settings) + repr(KafkaBroker(settings))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    settings = KafkaSettings.of(AT | {"security.protocol": "SSL", "ssl.ca.location": str(tmp_path / "ca.pem")})
    with pytest.raises(ConfigurationError, match=r"ssl\.ca\.location '.*ca\.pem' cannot be read"):
        settings.ssl_context()
