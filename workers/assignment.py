"""Who runs which shards: our own assignor moves whole shards and moves as few as it can.

A shard is a partition number, so partition p of every topic goes to one member. Decided on the group's leader from what the
members tell: which shards they had, since which generation, and how far their local state is behind. In this order a shard

1. stays with the member that had it (of two that claim it, the newer generation's claim wins), up to a fair share,
2. goes to the member with the least to restore for it,
3. goes to the member with the fewest shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..topics.batch import Partition

USER_DATA_BYTES_MAX = 64 * 1024
"""What a member tells is cut to the shards it owns when it would be longer."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a member tells about itself."""

    shards: tuple[int, ...] = ()
    generation: int = -1
    stores: Mapping[int, int] = field(default_factory=dict)
    """Shard -> changelog position of the local state, higher is warmer; shards without local state are missing."""

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
    members = sorted(claims)
    assigned: dict[str, list[int]] = {member: [] for member in members}
    if not members:
        return assigned
    share, extra = divmod(shards, len(members))
    left = set(range(shards))
    for member in sorted(members, key=lambda m: (-claims[m].generation, -len(claims[m].shards), m)):
        quota = share + (1 if extra > 0 else 0)
        kept = [shard for shard in claims[member].shards if shard in left][:quota]
        extra -= 1 if len(kept) > share else 0
        assigned[member] = kept
        left.difference_update(kept)
    for shard in sorted(left):
        member = min(members, key=lambda m: (len(assigned[m]) >= share + 1, *_cost(claims[m], shard, assigned[m]), m))
        assigned[member].append(shard)
    return _levelled(assigned, claims)


def _cost(claim: Claim, shard: int, has: Sequence[int]) -> tuple[int, int]:
    """Fewer shards first; among equals the one whose local state is further."""
    return len(has), -claim.stores.get(shard, -1)


def _levelled(assigned: dict[str, list[int]], claims: Mapping[str, Claim]) -> dict[str, list[int]]:
    """A shard goes to the member that has local state for it where two can swap and both gain."""
    owner = {shard: member for member, shards in assigned.items() for shard in shards}
    for shard, member in sorted(owner.items()):
        warm = max(claims, key=lambda m: (claims[m].stores.get(shard, -1), m == member))
        if warm == member or claims[warm].stores.get(shard, -1) <= claims[member].stores.get(shard, -1):
            continue
        given = [s for s in assigned[warm] if s not in claims[warm].stores and s not in claims[warm].shards]
        if given and shard not in claims[member].shards:
            _swap(assigned, owner, (member, shard), (warm, given[0]))
    return {member: sorted(shards) for member, shards in assigned.items()}


def _swap(assigned: dict[str, list[int]], owner: dict[int, str], one: tuple[str, int], other: tuple[str, int]) -> None:
    for (member, shard), (_, received) in ((one, other), (other, one)):
        assigned[member].remove(shard)
        assigned[member].append(received)
        owner[received] = member


@dataclass(slots=True)
class ShardAssignor:
    """The `Assignor` of our consumers; the worker keeps `claim` up to date."""

    claim: Claim = field(default_factory=Claim)

    @property
    def name(self) -> str:
        return "millstream-shards"

    def user_data(self) -> bytes:
        return self.claim.encoded()

    def assign(
        self, members: Mapping[str, bytes], partition_counts: Mapping[str, int]
    ) -> Mapping[str, Sequence[Partition]]:
        claims = {member: Claim.decoded(data) for member, data in members.items()}
        by_member = assign_shards(claims, max(partition_counts.values(), default=0))
        return {
            member: [
                Partition(topic, shard)
                for topic in sorted(partition_counts)
                for shard in shards
                if shard < partition_counts[topic]
            ]
            for member, shards in by_member.items()
        }
