"""Who runs which shards: our own assignor moves whole shards and moves as few as it can.

A shard is a partition number, so partition p of every topic goes to one member. Decided on the group's leader from what the
members tell: which shards they had, since which generation, and how far their local state is behind. In this order a shard

1. stays with the member that had it (of two that claim it, the newer generation's claim wins), up to a fair share,
2. goes to the member with the least to restore for it: one that had it before, or keeps a warm copy,
3. goes to the member with the fewest shards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from ..topics.batch import Partition
from ..topics.broker import Share

USER_DATA_BYTES_MAX = 64 * 1024
"""What a member tells is cut to the shards it owns when it would be longer."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a member tells about itself."""

    shards: tuple[int, ...] = ()
    generation: int = -1
    stores: Mapping[int, int] = field(default_factory=dict)
    """Shard -> changelog position of the local state, higher is warmer; shards without local state are missing."""

    def position(self, shard: int) -> int:
        """Below every other where there is no local state."""
        return self.stores.get(shard, -1)

    def encoded(self) -> bytes:
        told: dict[str, Any] = {"shards": self.shards, "generation": self.generation}
        full = orjson.dumps({**told, "stores": list(self.stores.items())})
        return full if len(full) <= USER_DATA_BYTES_MAX else orjson.dumps(told)

    @classmethod
    def decoded(cls, data: bytes) -> Claim:
        """A member of another version, or one that tells nothing, claims nothing."""
        try:
            told = orjson.loads(data)
            return cls(
                tuple(told["shards"]), int(told["generation"]), {int(k): int(v) for k, v in told.get("stores", ())}
            )
        except (ValueError, KeyError, TypeError):
            return cls()


def assign_shards(claims: Mapping[str, Claim], shards: int) -> dict[str, list[int]]:
    """Shards by member, fair to within one."""
    if not claims:
        return {}
    dealing = _Dealing(claims, shards)
    dealing.leave()
    dealing.give_to_warmest()
    dealing.give_to_fewest()
    return {member: sorted(owned) for member, owned in dealing.assigned.items()}


class _Dealing:
    """The three rounds of one assignment. A member has room up to the fair share, and for one more while there are such."""

    def __init__(self, claims: Mapping[str, Claim], shards: int) -> None:
        self.claims = claims
        self.assigned: dict[str, list[int]] = {member: [] for member in sorted(claims)}
        self.left = set(range(shards))
        self.share, self.extra = divmod(shards, len(claims))

    def leave(self) -> None:
        """Shards stay with who had them. Who has too many keeps those that nobody who has room is warm for."""
        claims = self.claims
        takers = [member for member in claims if len(claims[member].shards) < self.share]
        for member in sorted(claims, key=lambda m: (-claims[m].generation, -len(claims[m].shards), m)):
            mine = [shard for shard in claims[member].shards if shard in self.left]
            elsewhere = [claims[taker] for taker in takers if taker != member]
            for shard in sorted(mine, key=lambda s: (max((one.position(s) for one in elsewhere), default=-1), s)):
                self.give(shard, member)

    def give_to_warmest(self) -> None:
        """To who has the least to restore, the furthest first."""
        warm = [
            (-claim.position(shard), shard, member)
            for member, claim in self.claims.items()
            for shard in claim.stores
            if shard in self.left
        ]
        for _, shard, member in sorted(warm):
            self.give(shard, member)

    def give_to_fewest(self) -> None:
        for shard in sorted(self.left):
            self.give(shard, min(self.assigned, key=lambda m: (len(self.assigned[m]), m)))

    def give(self, shard: int, member: str) -> None:
        """If it is to be had and the member has room."""
        has = len(self.assigned[member])
        if shard not in self.left or has > self.share or (has == self.share and not self.extra):
            return
        self.extra -= has == self.share
        self.assigned[member].append(shard)
        self.left.remove(shard)


def place_standbys(
    claims: Mapping[str, Claim], owned: Mapping[str, Sequence[int]], replicas: int
) -> dict[str, list[int]]:
    """Who keeps a warm copy of which shards: `replicas` members of each, not its owner, fewer where there are fewer members.

    A copy stays where it is the furthest, as long as the member keeps no more than its part; the rest goes to who keeps the fewest.
    """
    placed: dict[str, list[int]] = {member: [] for member in sorted(owned)}
    wanted = {shard: min(replicas, len(owned) - 1) for shards in owned.values() for shard in shards}
    share = -(-sum(wanted.values()) // len(owned)) if owned else 0

    def place(shard: int, member: str) -> None:
        if wanted[shard] and shard not in owned[member] and shard not in placed[member]:
            placed[member].append(shard)
            wanted[shard] -= 1

    warm = [
        (-position, shard, member)
        for member in placed
        for shard, position in claims[member].stores.items()
        if shard in wanted
    ]
    for _, shard, member in sorted(warm):
        if len(placed[member]) < share:
            place(shard, member)
    for shard in sorted(wanted):
        for member in sorted(placed, key=lambda m: (len(placed[m]), m)):
            place(shard, member)
    return {member: sorted(shards) for member, shards in placed.items()}


@dataclass(slots=True)
class ShardAssignor:
    """The `Assignor` of our consumers; the worker keeps `claim` up to date. `positions`: asked for `Claim.stores` at each join."""

    claim: Claim = field(default_factory=Claim)
    positions: Callable[[], Mapping[int, int]] = dict
    standby_replicas: int = 0
    """Warm copies of each shard beside its owner's; the leader's number counts."""
    standbys: frozenset[int] = frozenset()
    """The shards that this member is to keep a warm copy of."""

    @property
    def name(self) -> str:
        return "millstream-shards"

    def user_data(self) -> bytes:
        return replace(self.claim, stores=self.positions()).encoded()

    def assign(self, members: Mapping[str, bytes], partition_counts: Mapping[str, int]) -> Mapping[str, Share]:
        claims = {member: Claim.decoded(data) for member, data in members.items()}
        owned = assign_shards(claims, max(partition_counts.values(), default=0))
        standbys = place_standbys(claims, owned, self.standby_replicas)
        return {
            member: Share(
                [
                    Partition(topic, shard)
                    for topic in sorted(partition_counts)
                    for shard in shards
                    if shard < partition_counts[topic]
                ],
                orjson.dumps({"standbys": standbys[member]}),
            )
            for member, shards in owned.items()
        }

    def received(self, data: bytes) -> None:
        """A leader of another version tells nothing, and then there are no standbys here."""
        try:
            self.standbys = frozenset(int(shard) for shard in orjson.loads(data)["standbys"])
        except (ValueError, KeyError, TypeError):
            self.standbys = frozenset()
