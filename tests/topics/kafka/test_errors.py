"""Each of the client's errors becomes one of ours, by what the caller should do."""

from __future__ import annotations

import aiokafka.errors as kafka
import pytest

from millstream.topics import errors as ours
from millstream.topics.kafka.errors import OutcomeUnknown, StaleMember, translated

CASES = [
    # client's error                                  outside a transaction        inside one
    (kafka.RequestTimedOutError(),                    ours.BrokerUnavailableError, ours.AbortableError),
    (kafka.KafkaConnectionError("gone"),              ours.BrokerUnavailableError, ours.AbortableError),
    (kafka.NotEnoughReplicasError(),                  ours.BrokerUnavailableError, ours.AbortableError),
    (TimeoutError(),                                  ours.BrokerUnavailableError, ours.AbortableError),
    (ConnectionResetError(),                          ours.BrokerUnavailableError, ours.AbortableError),
    (kafka.ProducerFenced(),                          ours.FencedError,            ours.FencedError),
    (kafka.InvalidProducerEpoch(),                    ours.FencedError,            ours.FencedError),
    (kafka.IllegalOperation("fenced before"),         ours.FencedError,            ours.FencedError),
    (kafka.InvalidProducerIdMapping(),                ours.FencedError,            ours.FencedError),
    (kafka.IllegalGenerationError(),                  ours.FencedError,            ours.FencedError),
    (kafka.CommitFailedError("rebalanced"),           ours.FencedError,            ours.FencedError),
    (StaleMember("generation 3"),                     ours.FencedError,            ours.FencedError),
    (kafka.OutOfOrderSequenceNumber(),                ours.AmbiguousError,         ours.AmbiguousError),
    (kafka.UnknownProducerId(),                       ours.AmbiguousError,         ours.AmbiguousError),
    (kafka.InvalidTxnState(),                         ours.AmbiguousError,         ours.AmbiguousError),
    (OutcomeUnknown("no answer"),                     ours.AmbiguousError,         ours.AmbiguousError),
    (kafka.MessageSizeTooLargeError(),                ours.RecordTooLargeError,    ours.RecordTooLargeError),
    (kafka.RecordListTooLargeError(),                 ours.RecordTooLargeError,    ours.RecordTooLargeError),
    (kafka.TopicAuthorizationFailedError("t"),        ours.AuthorizationError,     ours.AuthorizationError),
    (kafka.GroupAuthorizationFailedError("g"),        ours.AuthorizationError,     ours.AuthorizationError),
    (kafka.TransactionalIdAuthorizationFailed("x"),   ours.AuthorizationError,     ours.AuthorizationError),
    (kafka.InvalidTopicError("a b"),                  ours.ConfigurationError,     ours.ConfigurationError),
    (kafka.InvalidReplicationFactorError(),           ours.ConfigurationError,     ours.ConfigurationError),
]  # fmt: skip


@pytest.mark.parametrize(("given", "outside", "inside"), CASES, ids=[type(case[0]).__name__ for case in CASES])
def test_table(given, outside, inside):
    assert outside is type(translated(given, "doing it"))
    assert inside is type(translated(given, "doing it", in_transaction=True))
    assert str(translated(given, "doing it")).startswith("doing it: ")


def test_what_the_client_wrapped_is_unwrapped():
    """Its sender tells most errors as a plain KafkaError with the true one as cause."""
    wrapped = kafka.KafkaError("Unexpected error during batch delivery")
    wrapped.__cause__ = kafka.InvalidProducerEpoch()
    assert isinstance(translated(wrapped, "committing"), ours.FencedError)


def test_ours_stay_what_they_are():
    error = ours.FencedError("x")
    assert error is translated(error, "doing it")
