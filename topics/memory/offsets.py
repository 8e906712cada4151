"""Committed offsets of one group, and those that wait for a transaction to end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from ..batch import Partition
from ..broker import Committed
from ..errors import ConfigurationError
from .log import Transaction

METADATA_BYTES_MAX: Final = 4_096
"""Kafka's default `offset.metadata.max.bytes`."""


class GroupOffsets:
    """Offsets are **stable** when no transaction that would change them is open: only then may they be relied on."""

    def __init__(self) -> None:
        self._committed: dict[Partition, Committed] = {}
        self._pending: dict[Transaction, dict[Partition, Committed]] = {}

    def commit(self, offsets: Mapping[Partition, Committed]) -> None:
        check_metadata(offsets)
        self._committed.update(offsets)

    def commit_later(self, transaction: Transaction, offsets: Mapping[Partition, Committed]) -> None:
        check_metadata(offsets)
        self._pending.setdefault(transaction, {}).update(offsets)

    def ended(self, transaction: Transaction) -> None:
        """Takes or drops what the transaction carried."""
        offsets = self._pending.pop(transaction, {})
        if transaction.outcome == "committed":
            self._committed.update(offsets)

    def stable(self, partitions: Collection[Partition]) -> bool:
        return not any(partition in pending for pending in self._pending.values() for partition in partitions)

    def of(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        return {partition: self._committed[partition] for partition in partitions if partition in self._committed}

    def all(self) -> dict[Partition, Committed]:
        return dict(self._committed)

    def forget(self, topic: str) -> None:
        """A topic was deleted."""
        for kept in (self._committed, *self._pending.values()):
            for partition in [partition for partition in kept if partition.topic == topic]:
                del kept[partition]


def check_metadata(offsets: Mapping[Partition, Committed]) -> None:
    """Raises ConfigurationError for metadata that Kafka would not keep."""
    for partition, known in offsets.items():
        if len(known.metadata.encode()) > METADATA_BYTES_MAX:
            raise ConfigurationError(
                f"{partition}: the metadata of a committed offset has at most {METADATA_BYTES_MAX} bytes, "
                f"got {len(known.metadata.encode())}"
            )
