"""A member of a consumer group on the memory broker."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress

from ..batch import Fetch, Partition
from ..broker import Assignor, Committed, Isolation, RebalanceListener
from ..errors import BrokerUnavailableError, ConfigurationError, DuplicateMemberError, TopicsError
from .cluster import Cluster
from .groups import Group, Member
from .reader import Reading


class MemoryGroupConsumer(Reading):
    """See the `GroupConsumer` protocol. `start` returns when it has joined; the listener hears the rest.

    While it lives and is connected it is taken to send heartbeats; `broker.faults.disconnect(consumer)` ends them, and
    its session runs out by `broker.clock`.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        group: str,
        topics: Collection[str],
        assignor: Assignor,
        listener: RebalanceListener,
        instance_id: str | None,
        isolation: Isolation,
    ) -> None:
        super().__init__(cluster, isolation)
        self.group = group
        self._topics = frozenset(topics)
        self._assignor = assignor
        self._listener = listener
        self._instance_id = instance_id
        self._member: Member | None = None
        self._generation = -1
        self._owned: frozenset[Partition] = frozenset()
        self._dead: TopicsError | None = None
        self._moving = False
        self._news: deque[Callable[[], Awaitable[None]]] = deque()
        self._task: asyncio.Task[None] | None = None
        cluster.faults.watch(self, self._cut)

    async def start(self) -> None:
        """Joins. Raises BrokerUnavailableError, ConfigurationError for a topic that is missing."""
        await super().start()
        missing = sorted(self._topics - self._cluster.describe(self._topics).keys())
        if missing:
            raise ConfigurationError(f"group {self.group!r}: topic {missing[0]!r} does not exist; create it first")
        await self._ask("join", self._join)
        self._task = asyncio.get_running_loop().create_task(self._live(), name=f"member of {self.group}")

    async def stop(self) -> None:
        """Closes. A dynamic member leaves; a static one stays a member until its session times out."""
        await self._end_task()
        if self._member is not None:
            if self._instance_id is None:
                self._tell(lambda group, member: group.leave(member))
            else:
                self._group.silent(self._member)
        self._member = None
        await super().stop()

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Raises ConfigurationError: what a member reads is assigned by the group; `seek` says from where."""
        raise ConfigurationError(f"group {self.group!r} assigns the partitions; use a reader to choose them, or seek")

    def seek(self, partition: Partition, offset: int) -> None:
        """Raises ConfigurationError for a partition this member does not own."""
        if partition not in self._positions:
            raise ConfigurationError(f"{partition} is not assigned to this member of group {self.group!r}")
        self._seek(partition, offset)

    async def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        until = self._cluster.clock.now_ms + self._cluster.settings.offsets_timeout_ms
        while True:
            changed = self._cluster.signal.next()
            found = await self._ask("offset_fetch", lambda: self._stable(partitions))
            if found is not None:
                return found
            left_ms = until - self._cluster.clock.now_ms
            if left_ms <= 0 or not await self._cluster.clock.wait(changed, left_ms):
                raise BrokerUnavailableError(f"group {self.group!r}: offsets wait for a transaction that does not end")

    async def commit(self, offsets: Mapping[Partition, Committed]) -> None:
        """Raises FencedError when the generation is over."""
        await self._ask("offset_commit", lambda: self._group.commit(self._member, self._generation, offsets))

    def request_rejoin(self) -> None:
        if self._member is None:
            raise ConfigurationError(f"the consumer of group {self.group!r} is not started, or was stopped")
        if not self._cluster.faults.is_cut_off(self):
            self._group.rebalance()

    async def leave(self) -> None:
        await self._end_task()
        self._tell(lambda group, member: group.leave(member))
        self._member = None
        self._owned, self._positions = frozenset(), {}

    @property
    def member_id(self) -> str:
        """Empty before `start` and after `leave`."""
        return self._member.member_id if self._member is not None else ""

    def raise_if_dead(self) -> None:
        self._raise_if_over()

    @property
    def _group(self) -> Group:
        return self._cluster.group(self.group)

    def _raise_if_over(self) -> None:
        if self._dead is not None:
            raise self._dead

    def _stable(self, partitions: Collection[Partition]) -> dict[Partition, Committed] | None:
        offsets = self._group.offsets
        return offsets.of(partitions) if offsets.stable(partitions) else None

    def _join(self) -> None:
        self._member = self._group.join(
            instance_id=self._instance_id, topics=self._topics, assignor=self._assignor, client=self
        )

    def _tell(self, said: Callable[[Group, Member], None]) -> None:
        """Tell the coordinator, if it can be reached."""
        if self._member is not None and not self._cluster.faults.is_cut_off(self):
            said(self._group, self._member)

    def _cut(self, cut_off: bool) -> None:
        member = self._member
        if member is not None and self._group.members.get(member.member_id) is member:
            (self._group.silent if cut_off else self._group.heard)(member)
        self._cluster.signal.changed()

    # What the coordinator says; the task below acts on it, in order.

    def rejoin(self) -> None:
        self._note(self._give_up_and_rejoin)

    def share(self, partitions: frozenset[Partition], generation: int, data: bytes) -> None:
        self._note(lambda: self._receive(partitions, generation, data))

    def lost(self) -> None:
        self._note(self._begin_anew)

    def displaced(self) -> None:
        self._note(self._give_way)

    def failed(self, error: Exception) -> None:
        known = isinstance(error, TopicsError)
        self._die(error if known else ConfigurationError(f"assignor {self._assignor.name!r}: {error!r}"))

    def _note(self, action: Callable[[], Awaitable[None]]) -> None:
        self._news.append(action)
        self._cluster.signal.changed()

    async def _live(self) -> None:
        """Act on the news, one after the other, while connected; leave the group when the membership has ended."""
        while self._dead is None:
            changed = self._cluster.signal.next()
            if not self._news or self._cluster.faults.is_cut_off(self):
                await changed
            else:
                await self._news.popleft()()
        self._tell(lambda group, member: group.leave(member))

    async def _give_up_and_rejoin(self) -> None:
        await self._give_up()
        await self._until_heard(self._rejoin)

    async def _begin_anew(self) -> None:
        self._generation = -1
        await self._give_up()
        await self._until_heard(self._join)

    async def _receive(self, partitions: frozenset[Partition], generation: int, data: bytes) -> None:
        self._generation, self._owned = generation, partitions
        self._positions = dict.fromkeys(partitions)
        self._told_caught_up = set()
        self._moving = False
        self._assignor.received(data)
        await self._call(self._listener.assigned(partitions, generation))

    async def _give_way(self) -> None:
        self._die(
            DuplicateMemberError(
                f"group {self.group!r}: another process has joined with group.instance.id {self._instance_id!r}. "
                "Stop one of the two, or give each its own id"
            )
        )

    async def _give_up(self) -> None:
        self._moving = True
        given_up, self._owned = self._owned, frozenset()
        await self._call(self._listener.revoked(given_up))
        self._positions = {}

    async def _call(self, told: Awaitable[None]) -> None:
        try:
            await told
        except TopicsError as error:
            self._die(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the membership
            self._die(TopicsError(f"the rebalance listener raised {error!r}"))

    async def _until_heard(self, action: Callable[[], object]) -> None:
        """Joining goes on until it is answered."""
        while self._dead is None:
            changed = self._cluster.signal.next()
            try:
                await self._ask("join", action)
            except BrokerUnavailableError:
                if self._cluster.faults.is_cut_off(self):
                    await changed
            else:
                return

    def _rejoin(self) -> None:
        if self._member is not None:
            self._group.rejoin(self._member)  # where it is no member any more, `lost` has been said

    def _take(self, wanted: Collection[Partition] | None, records_max: int) -> list[Fetch]:
        self._raise_if_over()
        return [] if self._moving else super()._take(wanted, records_max)

    def _die(self, error: TopicsError | Exception) -> None:
        if self._dead is None:
            self._dead = error if isinstance(error, TopicsError) else TopicsError(repr(error))
            self._cluster.signal.changed()

    async def _end_task(self) -> None:
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
