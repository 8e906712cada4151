"""The transaction coordinator: who owns a transactional id, and how transactions end.

                 send, send_offsets
                    +-------+
                    v       |            end                        markers written
    NONE --begin--> OPEN ---+----------------------> ENDING -----------------------> NONE
     ^                |                                |
     |                | its timeout (epoch + 1)        | a new owner finishes it at once
     +---- aborted ---+                                +--> NONE

`initialise` raises the epoch: whoever holds an older one is fenced. As in Kafka an end is decided first and becomes visible
a moment later, when markers are in the logs: `finish` is that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from ..batch import Partition
from ..broker import Committed
from ..errors import FencedError
from .clock import MemoryClock, Timer
from .log import Columns, PartitionLog, Transaction
from .offsets import GroupOffsets


@dataclass
class _Owner:
    epoch: int = -1
    transaction: Transaction | None = None
    ending: Literal["committed", "aborted"] | None = None
    timer: Timer | None = None


class TransactionCoordinator:
    """Synchronous; raises FencedError for an epoch that is over."""

    def __init__(
        self,
        clock: MemoryClock,
        timeout_ms: int,
        offsets_of: Callable[[str], GroupOffsets],
        changed: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._timeout_ms = timeout_ms
        self._offsets_of = offsets_of
        self._changed = changed
        self._owners: dict[str, _Owner] = {}

    def initialise(self, transactional_id: str) -> int:
        """A new owner: its epoch. What the old one left open is aborted, what it was ending is ended."""
        owner = self._owners.setdefault(transactional_id, _Owner())
        self.finish(transactional_id)
        if owner.transaction is not None:
            self._end(owner, "aborted")
        owner.epoch += 1
        return owner.epoch

    def append(self, transactional_id: str, epoch: int, log: PartitionLog, columns: Columns) -> int:
        return log.append(columns, self._open(transactional_id, epoch))

    def add_offsets(
        self, transactional_id: str, epoch: int, group: str, offsets: Mapping[Partition, Committed]
    ) -> None:
        transaction = self._open(transactional_id, epoch)
        self._offsets_of(group).commit_later(transaction, offsets)
        if group not in transaction.groups:
            transaction.groups.append(group)

    def end(self, transactional_id: str, epoch: int, outcome: Literal["committed", "aborted"]) -> None:
        """Decide it; `finish` makes it seen. Ending a transaction that touched nothing does nothing."""
        owner = self._owner(transactional_id, epoch)
        if owner.transaction is not None and owner.ending is None:
            owner.ending = outcome

    def finish(self, transactional_id: str) -> None:
        """Write the markers of an end that was decided."""
        owner = self._owners[transactional_id]
        if owner.ending is not None:
            self._end(owner, owner.ending)

    def _owner(self, transactional_id: str, epoch: int) -> _Owner:
        owner = self._owners.get(transactional_id)
        if owner is None or owner.epoch != epoch:
            newest = -1 if owner is None else owner.epoch
            raise FencedError(f"transactional id {transactional_id!r}: epoch {epoch} is over, the newest is {newest}")
        return owner

    def _open(self, transactional_id: str, epoch: int) -> Transaction:
        owner = self._owner(transactional_id, epoch)
        self.finish(transactional_id)
        if owner.transaction is None:
            owner.transaction = Transaction(transactional_id)
            owner.timer = self._clock.call_after(self._timeout_ms, lambda: self._timed_out(owner))
        return owner.transaction

    def _timed_out(self, owner: _Owner) -> None:
        """As Kafka does: abort, and fence the producer that was too slow."""
        if owner.transaction is not None and owner.ending is None:
            self._end(owner, "aborted")
            owner.epoch += 1

    def _end(self, owner: _Owner, outcome: Literal["committed", "aborted"]) -> None:
        transaction, owner.transaction, owner.ending = owner.transaction, None, None
        assert transaction is not None
        transaction.outcome = outcome
        if owner.timer is not None:
            owner.timer.cancel()
        for log in transaction.logs:
            log.mark(transaction)
        for group in transaction.groups:
            self._offsets_of(group).ended(transaction)
        self._changed()
