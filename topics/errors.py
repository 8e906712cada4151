"""What can go wrong with topics and the broker, classed by what the caller should do.

    TopicsError
    |-- ConfigurationError      stop; the text says what to change
    |   |-- SchemaError             a schema, a codec or a column that cannot be
    |   |-- TopicMismatchError      a topic exists with another partition count or policy
    |   `-- AuthorizationError      the broker refuses this principal
    |-- BrokerUnavailableError  wait and try again: nothing was decided
    |-- RecordTooLargeError     the record can never be written: dead letter by reference
    |-- AbortableError          abort the transaction, then try it again
    |-- FencedError             somebody else owns this shard: drop it, request a rejoin
    |-- AmbiguousError          the outcome is unknown: drop the producer, take the shard again
    `-- DuplicateMemberError    another process runs with our instance id: stop

The errors of a client library are translated into these at one edge (`topics/kafka/errors.py`, `topics/memory`).
"""

from __future__ import annotations

from collections.abc import Sequence


class TopicsError(Exception):
    """Root of the tree above."""


class ConfigurationError(TopicsError):
    """Something was declared that cannot be; trying again will not help."""


class SchemaError(ConfigurationError):
    """A schema, codec or column cannot be what it was declared to be."""


class TopicMismatchError(ConfigurationError):
    """A topic exists, with another partition count, policy or configuration than declared."""


class AuthorizationError(ConfigurationError):
    """The broker refuses the principal we log in with, or its rights do not suffice."""


class BrokerUnavailableError(TopicsError):
    """No answer from the broker or its coordinator; nothing was decided, so trying again is safe."""


class RecordTooLargeError(TopicsError):
    """The broker will never take a record of this size. `rows`: which of the records sent, where known."""

    def __init__(self, text: str, *, rows: Sequence[int] = ()) -> None:
        super().__init__(text)
        self.rows = tuple(rows)


class AbortableError(TopicsError):
    """The open transaction cannot commit; abort it, and its work can be done again."""


class FencedError(TopicsError):
    """A newer owner has initialised the same transactional id, or our transaction timed out: we are the zombie."""


class AmbiguousError(TopicsError):
    """A commit or an abort was not answered: it may or may not have happened."""


class DuplicateMemberError(TopicsError):
    """Another process joined the group with the same `group.instance.id`."""
