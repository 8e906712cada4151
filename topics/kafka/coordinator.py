"""A group member on aiokafka's coordinator, with its silences made audible.

- What a listener or an assignor raises, and what the broker refuses for good, is kept in `dead` (the stock coordinator
  logs the first and parks itself on the second).
- A static member that is not known any more asks again *with* its old member id: only so does the broker say whether the
  session merely expired (then it joins anew) or another process took the instance id (error 82: DuplicateMemberError).
  The stock coordinator forgets its id first, and two processes steal the membership from each other for ever.
- The group is left by the worker's decision only, never because nothing was polled for five minutes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import aiokafka.errors as kafka
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.structs import TopicPartition

from ..batch import Partition
from ..broker import Assignor, RebalanceListener, Share
from ..errors import ConfigurationError, DuplicateMemberError, TopicsError
from .client import Client
from .errors import FENCED_INSTANCE_ID, translated
from .settings import KafkaSettings

log = logging.getLogger(__name__)

_NEVER_MS = (1 << 31) - 1


class Coordinator(GroupCoordinator):  # type: ignore[misc]
    """Membership in one group. `dead` is what ended it."""

    generation: int
    member_id: str

    def __init__(
        self,
        client: Client,
        subscription: Any,
        settings: KafkaSettings,
        *,
        group: str,
        instance_id: str | None,
        assignor: Assignor,
    ) -> None:
        self.dead: TopicsError | None = None
        self._group_name = group
        super().__init__(
            client,
            subscription,
            group_id=group,
            group_instance_id=instance_id,
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
            retry_backoff_ms=max(settings.retry_backoff_ms, 50),
            max_poll_interval_ms=_NEVER_MS,
            enable_auto_commit=False,
            assignors=(_Assigning(assignor, self),),
        )

    def die(self, error: TopicsError) -> None:
        """Keep the first error that ended the membership, and wake who waits for records."""
        if self.dead is None:
            self.dead = error
            log.error("group %s: %s", self._group_name, error)
            self._subscription.abort_waiters(kafka.KafkaError(str(error)))

    async def _send_req(self, request: Any) -> Any:
        if self.dead is not None:
            await asyncio.wait([self._closing])
            raise kafka.KafkaConnectionError("the membership has ended")
        response = await super()._send_req(request)
        if getattr(response, "error_code", 0) == FENCED_INSTANCE_ID:
            self.die(
                DuplicateMemberError(
                    f"group {self._group_name!r}: another process has joined with group.instance.id "
                    f"{self._group_instance_id!r}. Stop one of the two, or give each its own id"
                )
            )
            raise kafka.KafkaConnectionError("the instance id was taken by another process")
        return response

    def reset_generation(self) -> None:
        if self._group_instance_id is None or self.generation < 0 or self._closing.done():
            super().reset_generation()
            return
        self.generation = -1  # the member id stays: the next join tells expired from taken
        self.request_rejoin()

    async def _do_heartbeat(self) -> bool:
        if self.generation < 0:
            return True  # about to join again
        result: bool = await super()._do_heartbeat()
        return result

    def _push_error_to_user(self, exc: Exception) -> Any:
        error = translated(exc, f"group {self._group_name!r}")
        if isinstance(error, ConfigurationError) or self.dead is not None:
            self.die(error)
            return asyncio.wait([self._closing])
        log.warning("%s; joining again", error)
        self.request_rejoin()
        return asyncio.sleep(self._retry_backoff_ms / 1000)

    async def leave(self) -> None:
        """LeaveGroup by member id, which the broker accepts of static members too (aiokafka sends it for none)."""
        if self.generation < 0 or self.dead is not None:
            return
        try:
            await self._send_req(LeaveGroupRequest(self.group_id, self.member_id))
        except kafka.KafkaError as error:
            log.warning("group %s: leaving was not answered (%s); the session will time out", self.group_id, error)
        self.generation = -1

    def failed(self) -> TopicsError | None:
        """What ended the membership, also when the background task died of something unforeseen."""
        task = self._coordination_task
        if self.dead is None and task.done() and not task.cancelled() and task.exception() is not None:
            self.die(translated(task.exception(), f"group {self._group_name!r}"))
        return self.dead


class _Assigning(AbstractPartitionAssignor):  # type: ignore[misc]
    """Our assignor in aiokafka's shape. (Its methods are class methods there; it only ever calls them on what we give.)"""

    def __init__(self, assignor: Assignor, coordinator: Coordinator) -> None:
        self._assignor = assignor
        self._coordinator = coordinator

    @property
    def name(self) -> str:
        return self._assignor.name

    def metadata(self, topics: Iterable[str]) -> Any:
        return ConsumerProtocolMemberMetadata(0, sorted(topics), self._assignor.user_data())

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        topics = sorted({topic for member in members.values() for topic in member.subscription})
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        user_data = {member: bytes(data.user_data or b"") for member, data in members.items()}
        try:
            shares = self._assignor.assign(user_data, counts)
        except Exception as error:
            self._coordinator.die(
                error if isinstance(error, TopicsError) else ConfigurationError(f"assignor {self.name!r}: {error!r}")
            )
            raise
        return {member: _member_assignment(shares.get(member, Share())) for member in members}

    def on_assignment(self, assignment: Any) -> None:
        self._assignor.received(bytes(assignment.user_data or b""))


def _member_assignment(share: Share) -> Any:
    by_topic: dict[str, list[int]] = {}
    for partition in sorted(share.partitions):
        by_topic.setdefault(partition.topic, []).append(partition.index)
    return ConsumerProtocolMemberAssignment(0, list(by_topic.items()), share.data)


class Listening(ConsumerRebalanceListener):  # type: ignore[misc]
    """Our listener in aiokafka's shape; whatever it raises ends the membership."""

    def __init__(self, listener: RebalanceListener) -> None:
        self._listener = listener
        self.coordinator: Coordinator | None = None
        self.stopped = False
        """Nothing is told any more: a rebalance may still end while the member closes."""
        self._owned: frozenset[Partition] = frozenset()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        given_up, self._owned = self._owned, frozenset()
        if self.stopped:
            return
        try:
            await self._listener.revoked(given_up)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the membership
            self._failed("revoked", error)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        assert self.coordinator is not None
        self._owned = frozenset(Partition(tp.topic, tp.partition) for tp in assigned)
        if self.stopped:
            return
        try:
            await self._listener.assigned(self._owned, self.coordinator.generation)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the membership
            self._failed("assigned", error)

    def _failed(self, what: str, error: Exception) -> None:
        assert self.coordinator is not None
        if not isinstance(error, TopicsError):
            error = TopicsError(f"the rebalance listener's {what}() raised {error!r}")
        self.coordinator.die(error)
        log.error("the rebalance listener's %s() raised", what, exc_info=error)
