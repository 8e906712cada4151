"""The group coordinator: eager rebalances, static members, sessions. Synchronous; members are told by callbacks.

             a member joins, leaves, is lost, asks; topics change
    EMPTY ------------------------------------------> JOINING <----------------+
      ^                                                  | all have joined, or | the same
      |  the last member is gone                         v the time is over    |
      +---------------------------------------------- STABLE ------------------+

At a rebalance everybody is told (`rejoin`), gives up what it has and joins again; then the generation is raised, the leader
(the member that is in the group for longest) assigns, and everybody hears its share. A static member that comes back under
its instance id takes its old place and share, and nobody else notices; the process it displaced hears `displaced`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..batch import Partition
from ..broker import Assignor, Committed, Share
from ..errors import FencedError
from .clock import MemoryClock, Timer
from .offsets import GroupOffsets


class Client(Protocol):
    """What a member's process hears. Calls never do more than take note."""

    def rejoin(self) -> None:
        """A rebalance has begun: give up, then join again."""
        ...

    def share(self, partitions: frozenset[Partition], generation: int, data: bytes) -> None: ...

    def lost(self) -> None:
        """The session is over; whoever still lives may join anew."""
        ...

    def displaced(self) -> None:
        """Another process took the instance id."""
        ...

    def failed(self, error: Exception) -> None:
        """The assignor that ran on this member raised."""
        ...


@dataclass(eq=False)
class Member:
    """One member as the coordinator sees it."""

    member_id: str
    instance_id: str | None
    topics: frozenset[str]
    assignor: Assignor
    client: Client
    user_data: bytes = b""
    joined: bool = False
    share: frozenset[Partition] = frozenset()
    data: bytes = b""
    """What the assignor tells it with the share."""
    heard_of: int = -1
    """The newest generation whose share it was told."""
    session: Timer | None = None


class Group:
    """One consumer group: its members and its offsets."""

    def __init__(
        self,
        name: str,
        clock: MemoryClock,
        *,
        session_timeout_ms: int,
        rebalance_timeout_ms: int,
        counts_of: Callable[[Sequence[str]], Mapping[str, int]],
    ) -> None:
        self.name = name
        self.offsets = GroupOffsets()
        self.generation = 0
        self.members: dict[str, Member] = {}
        self._clock = clock
        self._session_timeout_ms = session_timeout_ms
        self._rebalance_timeout_ms = rebalance_timeout_ms
        self._counts_of = counts_of
        self._joining: Timer | None = None
        self._named = 0

    def join(self, *, instance_id: str | None, topics: frozenset[str], assignor: Assignor, client: Client) -> Member:
        """A process that is not a member yet."""
        old = next(
            (member for member in self.members.values() if instance_id and member.instance_id == instance_id), None
        )
        self._named += 1
        member = Member(f"{self.name}-{self._named}", instance_id, topics, assignor, client, assignor.user_data())
        if old is None:
            self.members[member.member_id] = member
        else:
            self._take_place(old, member)
            if self._joining is None and old.topics == topics:
                self._tell_share(member)
                return member
        member.joined = True
        self.rebalance()
        return member

    def rejoin(self, member: Member) -> bool:
        """A member has given up what it had. False: it is none any more."""
        if self.members.get(member.member_id) is not member:
            return False
        if self._joining is None:
            if member.heard_of != self.generation:
                self._tell_share(member)  # a static member that came too late: its place was kept
            return True
        member.user_data = member.assignor.user_data()
        member.joined = True
        self._complete_if_all_joined()
        return True

    def rebalance(self) -> None:
        """Begin one, unless one is going on."""
        if self._joining is None:
            self._joining = self._clock.call_after(self._rebalance_timeout_ms, self._give_up_waiting)
            for member in list(self.members.values()):
                if not member.joined:
                    member.client.rejoin()
        self._complete_if_all_joined()

    def leave(self, member: Member) -> None:
        if self.members.get(member.member_id) is member:
            self._remove(member)

    def silent(self, member: Member) -> None:
        """No more heartbeats: the session begins to run out."""
        if member.session is None:
            member.session = self._clock.call_after(self._session_timeout_ms, lambda: self._expired(member))

    def heard(self, member: Member) -> None:
        """Heartbeats again."""
        if member.session is not None:
            member.session.cancel()
            member.session = None

    def commit(self, member: Member | None, generation: int, offsets: Mapping[Partition, Committed]) -> None:
        """Raises FencedError for a member or a generation that is over."""
        if member is None or self.members.get(member.member_id) is not member:
            raise FencedError(f"group {self.name!r}: this consumer is not a member any more")
        if generation != self.generation:
            raise FencedError(f"group {self.name!r}: generation {generation} is over, now is {self.generation}")
        self.offsets.commit(offsets)

    def topics_changed(self, topics: frozenset[str]) -> None:
        """Topics were made, or got more partitions."""
        if any(member.topics & topics for member in self.members.values()):
            self.rebalance()

    def _take_place(self, old: Member, member: Member) -> None:
        """In the order of the members too, so that the leader stays the leader."""
        self.heard(old)
        member.share, member.data, member.joined = old.share, old.data, old.joined
        self.members = {
            (member if known is old else known).member_id: member if known is old else known
            for known in self.members.values()
        }
        old.client.displaced()

    def _remove(self, member: Member) -> None:
        self.heard(member)
        del self.members[member.member_id]
        if self.members:
            self.rebalance()
        elif self._joining is not None:
            self._joining.cancel()
            self._joining = None

    def _expired(self, member: Member) -> None:
        member.session = None
        if self.members.get(member.member_id) is member:
            self._remove(member)
            member.client.lost()

    def _give_up_waiting(self) -> None:
        """As Kafka: who did not join in time is out, but for static members, which keep their place."""
        late = [member for member in self.members.values() if not member.joined and member.instance_id is None]
        for member in late:
            self.heard(member)
            del self.members[member.member_id]
            member.client.lost()
        self._complete()

    def _complete_if_all_joined(self) -> None:
        if self._joining is not None and all(member.joined for member in self.members.values()):
            self._complete()

    def _complete(self) -> None:
        if self._joining is not None:
            self._joining.cancel()
            self._joining = None
        if not self.members:
            return
        self.generation += 1
        members = list(self.members.values())
        shares = self._assigned(members)
        for member in members:
            came, member.joined = member.joined, False
            share = shares.get(member.member_id, Share())
            member.share, member.data = frozenset(share.partitions), share.data
            if came:
                self._tell_share(member)

    def _tell_share(self, member: Member) -> None:
        member.heard_of = self.generation
        member.client.share(member.share, self.generation, member.data)

    def _assigned(self, members: Sequence[Member]) -> Mapping[str, Share]:
        leader = next((member for member in members if member.joined), members[0])
        topics = sorted(frozenset[str]().union(*(member.topics for member in members)))
        user_data = {member.member_id: member.user_data for member in members}
        try:
            return leader.assignor.assign(user_data, self._counts_of(topics))
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the leader's membership, which tells it
            leader.client.failed(error)
            return {}
