"""The worker as a member of its consumer group: hears of rebalances, and lets one go on when everything has come to rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..topics.batch import Partition
from ..topics.broker import GroupConsumer
from . import events as ev
from .assignment import Claim, ShardAssignor
from .errors import InvariantError
from .standby import Standbys

log = logging.getLogger("millstream.worker")


class Membership:
    """The `RebalanceListener` of a worker's consumer. `partitions` is what it owns now, shards and all.

    `halt_timeout_ms`: how long a rebalance waits for open commits, half the broker's rebalance timeout.
    """

    def __init__(
        self,
        dispatch: Callable[[ev.Assigned | ev.Revoked | ev.HaltOverdue], None],
        halt_timeout_ms: int,
        standby_replicas: int,
    ) -> None:
        self.assignor = ShardAssignor(standby_replicas=standby_replicas)
        self.standbys: Standbys | None = None
        self.partitions: list[Partition] = []
        self.consumer: GroupConsumer | None = None
        self._dispatch = dispatch
        self._halt_timeout_ms = halt_timeout_ms
        self._may_rebalance: asyncio.Future[None] | None = None

    def reading(self) -> GroupConsumer:
        """Raises InvariantError before there is one."""
        if self.consumer is None:
            raise InvariantError("the worker has no consumer yet")
        return self.consumer

    async def revoked(self, partitions: frozenset[Partition]) -> None:
        """Everything comes to rest before the member rejoins; what does not in time is dropped."""
        self._may_rebalance = asyncio.get_running_loop().create_future()
        waiting = self._may_rebalance
        self._dispatch(ev.Revoked())
        _, pending = await asyncio.wait([waiting], timeout=self._halt_timeout_ms / 1000)
        if pending:
            self._dispatch(ev.HaltOverdue())
            await asyncio.wait([waiting], timeout=self._halt_timeout_ms / 1000)

    async def assigned(self, partitions: frozenset[Partition], generation: int) -> None:
        self.partitions = sorted(partitions)
        shards = frozenset(partition.index for partition in partitions)
        self.assignor.claim = Claim(tuple(sorted(shards)), generation)
        kept = self.assignor.standbys - shards
        also = f", warm copies of {sorted(kept)}" if kept else ""
        log.info("generation %d: shards %s%s", generation, sorted(shards), also)
        if self.standbys is not None:
            await self.standbys.keep(kept)
        self._dispatch(ev.Assigned(shards, generation, self.reading().member_id))

    async def follow_standbys(self) -> None:
        """Until it is cancelled."""
        if self.standbys is not None:
            await self.standbys.run()

    def let_rebalance(self) -> None:
        """Everything has come to rest."""
        if self._may_rebalance is not None and not self._may_rebalance.done():
            self._may_rebalance.set_result(None)
