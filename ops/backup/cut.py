"""One moment of an app that may be running: committed offsets, and how far its topics reach that belong to them.

A commit is one transaction over a shard's changelogs, repartition topics and offsets, but three requests cannot see one
moment. So each round asks three times,

    offsets, waiting for those that are being committed       O
    ends of every partition, of all records and of stable ones   E
    offsets again                                             O'

and a shard's part is consistent if O = O' (nothing was committed between: a transaction whose records E could see would show
in O', as its offsets are pending until they are there) and all records were stable (nothing was half committed: a transaction
whose offsets O shows has marked its records already). If not, it asks again.

Without repartition topics shards do not know each other, and each is taken when it is quiet. With them rows go from shard to
shard, so all must be quiet in one round; on a busy app that can take many rounds, and may not succeed: stop it then.

Under at-least-once records come before their offsets, so that a backup may hold more than its offsets stand for, as after
any crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ...topics.batch import Partition
from ...topics.broker import Committed
from ...workers.clock import monotonic_s
from ..errors import BackupError

if TYPE_CHECKING:
    from ...topics.broker import Broker

TIMEOUT_S: Final = 120.0
"""How long a moment is looked for. On a busy machine a round takes a second and the first or second one does, with four
shards or sixteen that commit every 100 ms: asking for offsets waits for the commits that are under way."""
PAUSE_S: Final = 0.017
"""Between two rounds: not a divisor of the usual commit intervals."""


@dataclass(slots=True)
class Cut:
    """What belongs together. Records of a partition count from `begins` up to `ends`."""

    offsets: dict[Partition, Committed] = field(default_factory=dict)
    begins: dict[Partition, int] = field(default_factory=dict)
    ends: dict[Partition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """One round's answers."""

    offsets: Mapping[Partition, Committed]
    highest: Mapping[Partition, int]
    stable: Mapping[Partition, int]
    offsets_after: Mapping[Partition, Committed]

    def is_quiet(self, shard: int, before: Mapping[Partition, int]) -> bool:
        """`before`: stable ends of the round before. Where nothing was ever committed they must not move either: a very
        first commit does not show in offsets while it is pending."""
        offsets = {at: one for at, one in self.offsets.items() if at.index == shard}
        after = {at: one for at, one in self.offsets_after.items() if at.index == shard}
        ends = {at: end for at, end in self.stable.items() if at.index == shard}
        still = bool(offsets) or all(before.get(at) == end for at, end in ends.items())
        return still and offsets == after and all(self.highest[at] == end for at, end in ends.items())


async def consistent_cut(
    broker: Broker, group: str, partitions: Collection[Partition], *, together: bool, timeout_s: float = TIMEOUT_S
) -> Cut:
    """`together`: all shards in one round. Raises BackupError when there was none."""
    stable, highest = broker.reader(), broker.reader(isolation="read_uncommitted")
    await stable.start()
    await highest.start()

    async def look() -> Seen:
        return Seen(
            await broker.group_offsets(group),
            await highest.end_offsets(partitions),
            await stable.end_offsets(partitions),
            await broker.group_offsets(group),
        )

    try:
        cut = Cut(begins=await stable.begin_offsets(partitions))
        shards = {at.index for at in partitions} | {at.index for at in await broker.group_offsets(group)}
        left = await _filled(cut, shards, look, together=together, until_s=monotonic_s() + timeout_s)
    finally:
        await stable.stop()
        await highest.stop()
    if left:
        raise BackupError(
            f"app {group!r} commits all the time (shards {', '.join(map(str, sorted(left)))}), and no moment between was found "
            f"in {timeout_s:g} s; stop its workers and take the backup then"
        )
    return cut


async def _filled(
    cut: Cut, shards: set[int], look: Callable[[], Awaitable[Seen]], *, together: bool, until_s: float
) -> set[int]:
    """Fills the cut, and gives the shards that were never quiet."""
    left, before = set(shards), dict[Partition, int]()
    while True:
        seen = await look()
        quiet = {shard for shard in left if seen.is_quiet(shard, before)}
        if not together or quiet == left:
            cut.offsets |= {at: one for at, one in seen.offsets.items() if at.index in quiet}
            cut.ends |= {at: end for at, end in seen.stable.items() if at.index in quiet}
            left -= quiet
        if not left or monotonic_s() >= until_s:
            return left
        before = dict(seen.stable)
        await asyncio.sleep(PAUSE_S)
