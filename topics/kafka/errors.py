"""The one edge at which aiokafka's errors become ours, classed by what the caller should do."""

from __future__ import annotations

import asyncio
from typing import Final

import aiokafka.errors as kafka

from ..errors import (
    AbortableError,
    AmbiguousError,
    AuthorizationError,
    BrokerUnavailableError,
    ConfigurationError,
    FencedError,
    RecordTooLargeError,
    TopicsError,
)

NETWORK_EXCEPTION: Final = 13
COORDINATOR_LOADING: Final = 14
COORDINATOR_NOT_AVAILABLE: Final = 15
NOT_COORDINATOR: Final = 16
ILLEGAL_GENERATION: Final = 22
UNKNOWN_MEMBER: Final = 25
FENCED_INSTANCE_ID: Final = 82
UNSTABLE_OFFSET_COMMIT: Final = 88
PRODUCER_FENCED: Final = 90

RETRY_OFFSETS: Final = frozenset(
    {NETWORK_EXCEPTION, COORDINATOR_LOADING, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, UNSTABLE_OFFSET_COMMIT}
)
"""Answers of a group coordinator that say "not now", never "no offset"."""


class OutcomeUnknown(kafka.KafkaError):  # type: ignore[misc]
    """The answer to a commit or an abort was lost. Not retriable: the producer must not be used again."""


class StaleMember(kafka.KafkaError):  # type: ignore[misc]
    """The group coordinator refused offsets of a transaction: the generation is over (KIP-447)."""


_FENCED: Final = (
    kafka.ProducerFenced,
    kafka.InvalidProducerEpoch,
    kafka.InvalidProducerIdMapping,
    kafka.TransactionCoordinatorFenced,
    StaleMember,
    kafka.CommitFailedError,
    kafka.IllegalGenerationError,
    kafka.UnknownMemberIdError,
    kafka.IllegalOperation,  # not a KafkaError: a fenced producer that was told so before
)
_REFUSED: Final = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
    kafka.SaslAuthenticationFailed,
    kafka.AuthenticationFailedError,
)
_DROP: Final = (
    kafka.OutOfOrderSequenceNumber,
    kafka.UnknownProducerId,
    kafka.DuplicateSequenceNumber,
    kafka.InvalidTxnState,
    OutcomeUnknown,
    kafka.ProducerClosed,
)
_TOO_LARGE: Final = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError, kafka.RecordTooLargeError)
_WRONG: Final = (
    kafka.InvalidTopicError,
    kafka.InvalidPartitionsError,
    kafka.InvalidReplicationFactorError,
    kafka.InvalidReplicationAssignmentError,
    kafka.InvalidConfigurationError,
    kafka.PolicyViolationError,
    kafka.InvalidRequestError,
    kafka.InvalidSessionTimeoutError,
    kafka.InconsistentGroupProtocolError,
    kafka.InvalidGroupIdError,
    kafka.InvalidTransactionTimeout,
    kafka.NonEmptyGroup,
    kafka.UnsupportedVersionError,
    kafka.UnsupportedSaslMechanismError,
    kafka.IncompatibleBrokerVersion,
    kafka.OffsetOutOfRangeError,
    kafka.OffsetMetadataTooLargeError,
)


def translated(error: BaseException, doing: str, *, in_transaction: bool = False) -> TopicsError:
    """Our error for one of aiokafka's (or of the operating system's), saying what was being done.

    `in_transaction`: what would otherwise be "try again" is "abort, then try again". Out-of-order sequences and unknown
    producer ids become AmbiguousError, whose remedy is theirs: drop the producer and take the shard again.
    """
    if isinstance(error, TopicsError):
        return error
    error = root_cause(error)
    text = f"{doing}: {_said(error)}"
    if isinstance(error, _TOO_LARGE):
        return RecordTooLargeError(text)
    if isinstance(error, kafka.InvalidTimestampError):
        return ConfigurationError(
            f"{text}: a record's timestamp is further ahead of the broker's clock, or further behind it, than the topic's "
            "message.timestamp.after.max.ms (an hour, unless set) or message.timestamp.before.max.ms allows; raise it"
        )
    if isinstance(error, _REFUSED):
        return AuthorizationError(f"{text}. Ask for the right on it, or check who we log in as")
    if isinstance(error, _FENCED):
        return FencedError(text)
    if isinstance(error, _DROP):
        return AmbiguousError(text)
    if isinstance(error, _WRONG):
        return ConfigurationError(text)
    if isinstance(error, kafka.KafkaError | OSError | asyncio.TimeoutError):
        return AbortableError(text) if in_transaction else BrokerUnavailableError(text)
    return AbortableError(text) if in_transaction else TopicsError(text)


def root_cause(error: BaseException) -> BaseException:
    """What aiokafka wrapped in a plain KafkaError."""
    while type(error) is kafka.KafkaError and error.__cause__ is not None:
        error = error.__cause__
    return error


def _said(error: BaseException) -> str:
    name = type(error).__name__
    text = str(error).strip()
    if isinstance(error, asyncio.TimeoutError) and not text:
        return "no answer in time"
    return f"{name}: {text}" if text and text != name else name
