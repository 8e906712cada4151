"""The one protocol by which Millstream touches Kafka; `topics/kafka` and `topics/memory` implement it.

A `Broker` opens producers, group consumers and readers, and knows topics. Everything that waits is here; everything that
decides is elsewhere. The contract suites `tests/contracts/{broker,group,transaction}_contract.py` say what each method
promises and run over every implementation.

What an implementation must mind (exactly-once.md tells why): read committed offsets with an OffsetFetch whose top-level
error is checked; never report a commit before every acknowledgement; translate every client error into `topics.errors`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from .batch import Fetch, Partition, Records

CleanupPolicy = Literal["delete", "compact"]
Isolation = Literal["read_committed", "read_uncommitted"]


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed offset: the next one to read, and what we keep beside it (the watermark), at most 4 KiB of text."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to be created. `partitions=None` takes the broker's default, `replication=None` likewise."""

    name: str
    partitions: int | None = None
    replication: int | None = None
    cleanup: CleanupPolicy = "delete"
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as the broker has it. `topic_id` changes when a topic is deleted and made anew ("" where not known)."""

    name: str
    topic_id: str
    partitions: int
    config: Mapping[str, str]


class RebalanceListener(Protocol):
    """Told of every rebalance, in this order: `revoked` (before giving up), then `assigned` (with everything now owned).

    Neither may raise. The member does not rejoin before `revoked` has returned; it must return within half the
    rebalance timeout. Partitions that were lost are told as revoked.
    """

    async def revoked(self, partitions: frozenset[Partition]) -> None: ...

    async def assigned(self, partitions: frozenset[Partition], generation: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Share:
    """What a member is given, and what the assignor tells it besides."""

    partitions: Sequence[Partition] = ()
    data: bytes = b""


class Assignor(Protocol):
    """Decides who gets which partitions; runs on the group's leader. Pure: same arguments, same answer."""

    @property
    def name(self) -> str: ...

    def user_data(self) -> bytes:
        """What this member tells the leader about itself at each join."""
        ...

    def assign(self, members: Mapping[str, bytes], partition_counts: Mapping[str, int]) -> Mapping[str, Share]:
        """`members`: user data by member id; `partition_counts`: partitions by subscribed topic."""
        ...

    def received(self, data: bytes) -> None:
        """What came with this member's share, whichever member was the leader. Told before the listener hears of it."""
        ...


class Reader(Protocol):
    """Reads partitions it was told to read, outside any group: changelogs, index updates, bounded inputs."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read exactly these partitions, each from this offset. Replaces what was assigned."""
        ...

    def position(self, partition: Partition) -> int:
        """Where reading goes on. Moves past control batches and gaps too: `position >= end` means restored."""
        ...

    async def poll(
        self, *, timeout_ms: int, records_max: int, partitions: Collection[Partition] | None = None
    ) -> list[Fetch]:
        """At most about `records_max` records (whole record batches), in order a partition; [] after `timeout_ms`.

        `partitions` limits the poll to some of the assigned; records prefetched for the others are kept.
        An empty `Fetch` is returned when only the position moved, or when a partition became caught up; and one that is not
        caught up when that is not known any more, since its broker does not answer.
        Raises BrokerUnavailableError, ConfigurationError (the offset is out of range: names both ends).
        """
        ...

    async def begin_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]: ...

    async def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Under read_committed the last stable offset."""
        ...

    async def offsets_at(self, partitions: Collection[Partition], timestamp_ms: int) -> dict[Partition, int]:
        """First offset whose record timestamp is at or after the time; the end offset where there is none."""
        ...


class GroupConsumer(Reader, Protocol):
    """A member of a consumer group. `start` joins; the listener hears what is assigned; nothing is read before `seek`."""

    def seek(self, partition: Partition, offset: int) -> None: ...

    async def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        """What the group's coordinator has, surely; partitions without a commit are missing.

        Waits while the coordinator loads or moves, or transactional offsets are pending. Raises BrokerUnavailableError.
        """
        ...

    async def commit(self, offsets: Mapping[Partition, Committed]) -> None:
        """Commit outside a transaction (at-least-once). Raises FencedError when the generation is over."""
        ...

    def request_rejoin(self) -> None:
        """Start a new rebalance, as after being fenced."""
        ...

    async def leave(self) -> None:
        """Give up the membership now, static or not, so that the others need not wait for the session timeout."""
        ...

    @property
    def member_id(self) -> str:
        """As the group's coordinator named this member. Another one after a rebalance: the old membership had ended."""
        ...

    def raise_if_dead(self) -> None:
        """Raise what ended the membership (DuplicateMemberError, AuthorizationError); nothing while all is well."""
        ...


class Producer(Protocol):
    """Sends columns. With a transactional id: `begin`, any `send`, all acknowledgements, `send_offsets` once, `commit`."""

    async def start(self) -> None:
        """Transactional: InitProducerId, which fences older owners and ends their open transaction."""
        ...

    async def send(self, partition: Partition, records: Records) -> Awaitable[int]:
        """Hand over; waits only while the send buffer is full.

        The awaitable gives the offset after the last record, as often as it is awaited.

        Raises RecordTooLargeError with the row numbers before anything of these records was sent, ConfigurationError for
        a partition that does not exist. The awaitable raises RecordTooLargeError (the topic takes less than this client
        would send), AbortableError, FencedError, BrokerUnavailableError.
        """
        ...

    async def begin(self) -> None: ...

    async def send_offsets(self, group: str, offsets: Mapping[Partition, Committed]) -> None: ...

    async def commit(self) -> None:
        """Raises AmbiguousError when it is not known whether it happened, FencedError, AbortableError."""
        ...

    async def abort(self) -> None:
        """Raises AmbiguousError, FencedError."""
        ...

    async def drop(self) -> None:
        """Let go at once: nothing that is queued is delivered, an open transaction is left to be fenced."""
        ...

    async def stop(self) -> None:
        """Deliver what is queued, then close. An open transaction is aborted."""
        ...


class Broker(Protocol):
    """A Kafka cluster, or what keeps its promises."""

    async def start(self) -> None:
        """Connects. Raises BrokerUnavailableError saying which of TCP, TLS, SASL failed, AuthorizationError."""
        ...

    async def stop(self) -> None: ...

    def producer(self, *, transactional_id: str | None = None) -> Producer:
        """Without a transactional id: idempotent."""
        ...

    def reader(self, *, isolation: Isolation = "read_committed") -> Reader: ...

    def consumer(
        self,
        *,
        group: str,
        topics: Collection[str],
        assignor: Assignor,
        listener: RebalanceListener,
        instance_id: str | None = None,
        isolation: Isolation = "read_committed",
    ) -> GroupConsumer: ...

    async def describe_topics(self, names: Collection[str]) -> dict[str, TopicInfo]:
        """Those that exist; missing ones are absent."""
        ...

    async def list_topics(self) -> list[str]: ...

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Creates what does not exist yet and waits until it can be used; an existing topic is left as it is."""
        ...

    async def delete_topics(self, names: Collection[str]) -> None: ...

    async def delete_records(self, before: Mapping[Partition, int]) -> None: ...

    async def group_offsets(self, group: str) -> dict[Partition, Committed]: ...

    async def group_members(self, group: str) -> list[str]:
        """Who is in the group now, in words: instance or client id, and where it runs where that is known. Sorted.

        A process that was killed, or a static member that stopped, is one until its session runs out.
        """
        ...

    async def delete_group(self, group: str) -> None:
        """Forget the group's offsets. Raises ConfigurationError while it has members."""
        ...
