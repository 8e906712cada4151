"""A member of a consumer group that reads columns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiokafka.errors as kafka
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from ..batch import Partition
from ..broker import Assignor, Committed, Isolation, RebalanceListener
from ..errors import BrokerUnavailableError, ConfigurationError, FencedError
from .coordinator import Coordinator, Listening
from .errors import translated
from .offsets import committed_offsets
from .reader import Reading
from .settings import KafkaSettings

_STOP_S: Final = 3


@dataclass(frozen=True, slots=True)
class Member:
    """Who a member is at this moment, as KIP-447 wants it told. Generation -1: not (or no longer) in the group."""

    generation: int
    member_id: str
    instance_id: str | None


class KafkaGroupConsumer(Reading):
    """See the `GroupConsumer` protocol. Nothing of a partition is fetched before it was sought.

    `start` returns when the join has begun; the listener hears the rest. While partitions move, `poll` gives [] after its
    timeout.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        group: str,
        topics: Collection[str],
        assignor: Assignor,
        listener: RebalanceListener,
        instance_id: str | None,
        isolation: Isolation,
        on_stop: Callable[[KafkaGroupConsumer], None],
    ) -> None:
        # A JoinGroup is answered when the last member has joined: the request must outlast the rebalance.
        join_ms = settings.rebalance_timeout_ms + 2_000
        super().__init__(settings, isolation, request_timeout_ms=max(settings.request_timeout_ms, join_ms))
        self.group = group
        self._topics = frozenset(topics)
        self._assignor = assignor
        self._listener = Listening(listener)
        self._instance_id = instance_id
        self._coordinator: Coordinator | None = None
        self._on_stop = on_stop

    async def start(self) -> None:
        """Joins. Raises BrokerUnavailableError, AuthorizationError, ConfigurationError for a topic that is missing."""
        await super().start()
        try:
            await self._find_topics()
        except BaseException:
            await super().stop()
            raise
        self._subscription.subscribe(topics=set(self._topics), listener=self._listener)
        assert self._client is not None
        self._coordinator = Coordinator(
            self._client,
            self._subscription,
            self._settings,
            group=self.group,
            instance_id=self._instance_id,
            assignor=self._assignor,
        )
        self._listener.coordinator = self._coordinator

    async def _find_topics(self) -> None:
        assert self._client is not None
        self._client.set_topics(self._topics)
        for topic in sorted(self._topics):
            await self._client.partitions_of(topic, doing=f"group {self.group!r}")

    async def stop(self) -> None:
        """Closes. A dynamic member leaves the group; a static one stays a member until its session times out, so that a
        restart moves nothing (`leave` ends that)."""
        coordinator, self._coordinator = self._coordinator, None
        self._listener.stopped = True
        if coordinator is not None:
            self._on_stop(self)
            closing = asyncio.ensure_future(coordinator.close())
            await asyncio.wait([closing], timeout=_STOP_S)
            if not closing.done():  # it waits for other members of a rebalance
                closing.cancel()
                coordinator._coordination_task.cancel()
        await super().stop()

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Raises ConfigurationError: what a member reads is assigned by the group; `seek` says from where."""
        raise ConfigurationError(f"group {self.group!r} assigns the partitions; use a reader to choose them, or seek")

    def seek(self, partition: Partition, offset: int) -> None:
        """Raises ConfigurationError for a partition this member does not own."""
        self._seek(partition, offset)

    async def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        self._raise_if_over()
        coordinator = self._joined()

        async def send(request: Any) -> Any:
            await coordinator.ensure_coordinator_known()
            return await coordinator._send_req(request)

        return await committed_offsets(send, self.group, partitions, coordinator_lost=coordinator.coordinator_dead)

    async def commit(self, offsets: Mapping[Partition, Committed]) -> None:
        """Raises FencedError when the generation is over, BrokerUnavailableError after three request timeouts."""
        self._raise_if_over()
        coordinator = self._joined()
        doing = f"committing offsets of group {self.group!r}"
        if coordinator.generation < 0:
            # With no generation a broker takes it for a commit from outside, and accepts it while the group is empty.
            raise FencedError(f"{doing}: this member is not in the group any more")
        told = {
            TopicPartition(partition.topic, partition.index): OffsetAndMetadata(known.offset, known.metadata)
            for partition, known in offsets.items()
        }
        try:
            async with asyncio.timeout(3 * self._settings.request_timeout_ms / 1000):
                await coordinator.commit_offsets(None, told)
        except TimeoutError:
            raise BrokerUnavailableError(f"{doing}: no answer in time") from None
        except kafka.KafkaError as error:
            raise translated(error, doing) from error

    def request_rejoin(self) -> None:
        self._joined().request_rejoin()

    async def leave(self) -> None:
        if self._coordinator is not None:
            await self._coordinator.leave()

    @property
    def member_id(self) -> str:
        return self._joined().member_id

    def raise_if_dead(self) -> None:
        self._raise_if_over()

    def member(self) -> Member:
        """Who this is now, for the offsets of a transaction."""
        coordinator = self._joined()
        return Member(coordinator.generation, coordinator.member_id, self._instance_id)

    def owns(self, partitions: Collection[Partition]) -> bool:
        assigned = self._subscription.assigned_partitions() if self._subscription is not None else ()
        return all(TopicPartition(partition.topic, partition.index) in assigned for partition in partitions)

    def _raise_if_over(self) -> None:
        error = None if self._coordinator is None else self._coordinator.failed()
        if error is not None:
            raise error

    def _joined(self) -> Coordinator:
        if self._coordinator is None:
            raise ConfigurationError(f"the consumer of group {self.group!r} is not started, or was stopped")
        return self._coordinator
