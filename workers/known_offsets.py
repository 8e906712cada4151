"""Offsets a process knows to be committed, and a broker that has forgotten them.

Apache Kafka 4.3 was seen to answer "no offset" for offsets it had acknowledged, when its group coordinator was elected twice in a
row while it loaded. Believed, that means everything again. See docs/decisions/0033.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..topics.batch import Partition
from ..topics.broker import Committed
from ..topics.errors import BrokerUnavailableError


class KnownOffsets:
    """Of one shard, for the life of a process. What others commit meanwhile is above it: committed offsets never go back."""

    def __init__(self) -> None:
        self._latest: dict[Partition, int] = {}

    def add(self, committed: Mapping[Partition, Committed]) -> None:
        """Told by the broker, or acknowledged by it."""
        self._latest.update((partition, known.offset) for partition, known in committed.items())

    def check(self, told: Mapping[Partition, Committed]) -> None:
        """Raises BrokerUnavailableError where less is told than is known: the shard is taken again after a pause."""
        for partition, known in self._latest.items():
            offset = told[partition].offset if partition in told else None
            if (offset or 0) < known:
                raise BrokerUnavailableError(
                    f"{partition}: the broker tells committed offset {offset}, and had acknowledged {known} to this process; "
                    "reading it again. If the topic or the group's offsets were made anew, restart the worker"
                )
