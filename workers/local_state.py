"""What state lies in the data directory before anything of it is ours, so that the group can give us what we need not restore.

A position is the sum of the changelog offsets that a shard's databases stand for: of two copies of one shard the larger is ahead.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from ..state.errors import CorruptStoreError
from ..state.store import Databases
from .instrument import Silent
from .task import Task, TaskSettings
from .task_meta import read_meta
from .topology import Topology

log = logging.getLogger("millstream.worker")


def stores_of(topology: Topology) -> dict[str, list[str]]:
    """By sub-topology the stores of its tasks; those without are missing."""
    named = {sub.name: list(Task(topology, sub, 0, TaskSettings(), Silent()).states) for sub in topology.subs}
    return {sub: stores for sub, stores in named.items() if stores}


def positions_on_disk(
    databases: Databases, stores: Mapping[str, Sequence[str]], topic_ids: Mapping[str, str]
) -> dict[int, int]:
    """Shard -> position, of the databases there are; each is opened and closed again.

    A store whose changelog was made anew counts nothing, as it will be restored in full. Raises DiskError, LockedError.
    """
    found: dict[int, int] = {}
    for task in databases.tasks():
        sub, _, shard = task.rpartition("/")
        if sub in stores:
            found[int(shard)] = found.get(int(shard), 0) + _position(databases, task, list(stores[sub]), topic_ids)
    return {shard: position for shard, position in found.items() if position > 0}


def _position(databases: Databases, task: str, stores: list[str], topic_ids: Mapping[str, str]) -> int:
    try:
        database = databases.open(task)
    except CorruptStoreError as error:
        log.debug("%s: the local state of %s cannot be read; it is restored where the shard is taken", error, task)
        return 0
    try:
        meta = read_meta(database, stores, [])
    finally:
        database.close()
    return sum(
        end for store, end in meta.changelog.items() if meta.topic_ids.get(store, "") in {"", topic_ids.get(store)}
    )
