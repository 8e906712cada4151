"""Where an app's fingerprint is kept: a compacted topic of one partition, `<app>-fingerprint`.

    key                    value
    store/<store>          StoreFingerprint as JSON; null: no step has the store any more
    restoring              where the backup is, while `millstream restore` writes; null: it has ended

It lies where the state does, in the cluster: it is there when no local state is, it is read before a worker joins its group,
and it goes with the changelogs when an app is reset. (In the metadata of committed offsets there is room for a hash and not
for what changed; a record in each changelog would have to be found in it.) docs/decisions/0014 has the reasons in full.

A description is written before the first record of its changelog can be, so a changelog with records and no description is
one that code without this store has left behind.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from ..topics.arrow_buffers import large_binary
from ..topics.batch import Partition, Records
from ..topics.broker import Broker, TopicSpec
from ..topics.ensure import ensure_topics
from .errors import FingerprintError
from .fingerprint import StoreFingerprint, fingerprint_of, judge
from .naming import changelog_topic, fingerprint_topic
from .topology import Topology

log = logging.getLogger("millstream.worker")

STORE: Final = b"store/"
RESTORING: Final = b"restoring"
POLL_TIMEOUT_MS: Final = 100
POLL_RECORDS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Kept:
    """What the topic says."""

    stores: Mapping[str, StoreFingerprint] = field(default_factory=dict)
    restoring: str = ""
    """The backup that is being restored, or whose restore was broken off."""


async def agree(broker: Broker, topology: Topology, replication: int | None) -> None:
    """Whether the code fits what it finds; then it is written down. Before anything internal is created.

    Raises FingerprintError.
    """
    now = fingerprint_of(topology)
    kept = await read_kept(broker, topology.app)
    if kept is not None and kept.restoring:
        raise FingerprintError(
            f"app {topology.app!r}: its state is being restored from {kept.restoring}, or that was broken off; "
            f"wait for it, or run it again: millstream restore {topology.app} {kept.restoring} --force"
        )
    known = None if kept is None else kept.stores
    if known == now:
        return
    holding = await stores_with_records(broker, topology.app, {*now, *(known or ())})
    verdict = judge(topology.app, known, now, holding)
    for store in verdict.went:
        topic = changelog_topic(topology.app, store)
        log.warning("no step has store %r any more; what it kept is still in topic %s", store, topic)
    changes: dict[bytes, bytes | None] = {STORE + store.encode(): None for store in verdict.went}
    changes |= {STORE + name.encode(): one.to_bytes() for name, one in now.items() if (known or {}).get(name) != one}
    if changes:
        await write_kept(broker, topology.app, changes, replication)
        await _check_alone(broker, topology.app, now)


async def _check_alone(broker: Broker, app: str, now: Mapping[str, StoreFingerprint]) -> None:
    """Two workers with different code, started at once: the one that wrote last stays."""
    kept = await read_kept(broker, app)
    other = [name for name, one in now.items() if kept is None or kept.stores.get(name) != one]
    if other:
        raise FingerprintError(
            f"app {app!r}: a worker with other code was started at the same time, and has written other stores down "
            f"({', '.join(other)}); start the workers of one version only"
        )


async def read_kept(broker: Broker, app: str) -> Kept | None:
    """None where the app never kept anything. Raises FingerprintError, TopicsError."""
    topic = fingerprint_topic(app)
    if topic not in await broker.describe_topics([topic]):
        return None
    entries = await _read_all(broker, Partition(topic, 0))
    stores = {
        key.removeprefix(STORE).decode(): StoreFingerprint.from_bytes(value)
        for key, value in entries.items()
        if key.startswith(STORE) and value is not None
    }
    return Kept(stores, (entries.get(RESTORING) or b"").decode())


async def write_kept(
    broker: Broker, app: str, changes: Mapping[bytes, bytes | None], replication: int | None = None
) -> None:
    """Creates the topic where it is missing."""
    topic = fingerprint_topic(app)
    await ensure_topics(broker, [TopicSpec(topic, 1, replication, "compact")], create=True)
    producer = broker.producer()
    await producer.start()
    try:
        records = Records(large_binary(list(changes)), large_binary(list(changes.values())))
        await (await producer.send(Partition(topic, 0), records))
    finally:
        await producer.stop()


async def _read_all(broker: Broker, partition: Partition) -> dict[bytes, bytes | None]:
    """The last value of each key."""
    reader = broker.reader()
    await reader.start()
    entries: dict[bytes, bytes | None] = {}
    try:
        begin = (await reader.begin_offsets([partition]))[partition]
        end = (await reader.end_offsets([partition]))[partition]
        reader.assign({partition: begin})
        while reader.position(partition) < end:
            for fetch in await reader.poll(timeout_ms=POLL_TIMEOUT_MS, records_max=POLL_RECORDS_MAX):
                entries.update({key: fetch.values[row] for row, key in enumerate(fetch.keys) if key is not None})
    finally:
        await reader.stop()
    return entries


async def stores_with_records(broker: Broker, app: str, stores: Collection[str]) -> set[str]:
    """Those whose changelog exists and is not empty."""
    names = {changelog_topic(app, store): store for store in stores}
    found = await broker.describe_topics(list(names))
    partitions = [Partition(info.name, index) for info in found.values() for index in range(info.partitions)]
    if not partitions:
        return set()
    reader = broker.reader()
    await reader.start()
    try:
        begins = await reader.begin_offsets(partitions)
        ends = await reader.end_offsets(partitions)
    finally:
        await reader.stop()
    return {names[partition.topic] for partition in partitions if begins[partition] < ends[partition]}
