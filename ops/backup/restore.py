"""`millstream restore`: the topics of a backup made anew, with its records, and then its offsets.

    look, verify every file | mark as being restored | topics, records | offsets | unmark

Nothing is changed before everything was read once and has its checksum. While the mark is there no worker of the app starts,
so one that was broken off is no danger: run it again with --force.

The topics the app reads are not in a backup. They must be there, as they were: kept, mirrored with their offsets, or produced
again record by record; offsets that are out of their range are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...topics.batch import Partition
from ...topics.broker import Committed, TopicSpec
from ...workers.fingerprint_topic import RESTORING, STORE, write_kept
from ...workers.startup import changelog_spec
from ...workers.topology import INTERNAL_RETENTION_MS
from ..errors import BackupError
from ..offsets import commit_offsets
from ..reset import ResetPlan, perform_reset, plan_reset
from .files import CHANGELOG, REPARTITION, decoded, records_of
from .manifest import FileEntry, Manifest, TopicEntry
from .place import Place
from .take import Progress

if TYPE_CHECKING:
    from ...topics.broker import Broker, Producer

UNACKNOWLEDGED_MAX: Final = 16
"""Pieces of 10,000 records sent and not acknowledged yet."""


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What would be made, and what is in the way."""

    place: Place
    manifest: Manifest
    there: ResetPlan
    """What the app has in the cluster and here; with `--force` it goes."""

    def lines(self) -> Iterator[str]:
        """What is shown before."""
        told = self.manifest
        taken = datetime.fromtimestamp(told.taken_ms / 1000, UTC).isoformat(timespec="seconds")
        yield f"backup of {told.app}, taken {taken} by version {told.version}: {self.place.shown}"
        yield f"{told.records:,} records in {len(told.files)} file(s), {told.size_bytes:,} bytes; {len(told.offsets)} offsets"
        yield f"topics: {', '.join(one.name for one in told.topics) or 'none'}"
        if not self.there.empty:
            yield "in the way, and deleted with --force:"
            yield from (f"  {line}" for line in self.there.lines() if not line.startswith("left alone"))

    def check(self, *, force: bool) -> None:
        """Raises BackupError (InputError for workers that run) where it would overwrite something."""
        self.there.check()
        if not self.there.empty and not force:
            raise BackupError(
                f"app {self.manifest.app!r} is not empty here: {len(self.there.offsets)} offsets, "
                f"topics {', '.join(self.there.topics) or 'none'}, local state {self.there.state or 'none'}; "
                "--force deletes all this first"
            )


async def plan_restore(broker: Broker, app: str, place: Place, state_dir: Path) -> RestorePlan:
    """Looks, and changes nothing. Raises BackupError for a backup that is of another app, or whose inputs are not there."""
    manifest = await asyncio.to_thread(place.manifest)
    if manifest.app != app:
        raise BackupError(f"{place.shown} is a backup of app {manifest.app!r}, not of {app!r}")
    await _check_inputs(broker, manifest)
    return RestorePlan(place, manifest, await plan_reset(broker, app, state_dir))


async def _check_inputs(broker: Broker, manifest: Manifest) -> None:
    """Each offset must be one of its topic's."""
    found = await broker.describe_topics([one.name for one in manifest.inputs])
    for one in manifest.inputs:
        there = found[one.name].partitions if one.name in found else 0
        if there != one.partitions:
            raise BackupError(
                f"topic {one.name!r} has {there or 'no'} partitions here and had {one.partitions}; bring the topics back "
                "that the app reads, with their offsets, before its state"
            )
    names = {one.name for one in manifest.inputs}
    offsets = {at: one.offset for at, one in manifest.offsets.items() if at.topic in names}
    if not offsets:
        return
    reader = broker.reader()
    await reader.start()
    try:
        begins, ends = await reader.begin_offsets(offsets), await reader.end_offsets(offsets)
    finally:
        await reader.stop()
    for at, offset in sorted(offsets.items()):
        if not begins[at] <= offset <= ends[at]:
            raise BackupError(
                f"{at}: the app would go on from offset {offset}, and the topic has offsets from {begins[at]} to {ends[at]}; "
                "bring its records back, with their offsets, before the state (or begin anew, without the backup)"
            )


async def perform_restore(
    broker: Broker, plan: RestorePlan, progress: Progress, *, force: bool = False, replication: int | None = None
) -> None:
    """Raises BackupError before anything is changed; TopicsError at any time, then run it again with `force`."""
    plan.check(force=force)
    manifest, place = plan.manifest, plan.place
    await _verified(manifest, place, progress)
    await perform_reset(broker, plan.there)
    await write_kept(broker, manifest.app, {RESTORING: place.shown.encode()}, replication)
    await broker.create_topics([_spec(one, replication) for one in manifest.topics])
    await _send_all(broker, manifest, place, progress)
    if manifest.offsets:
        await commit_offsets(broker, manifest.app, _moved(manifest))
    stores = {STORE + name.encode(): one.to_bytes() for name, one in manifest.stores.items()}
    await write_kept(broker, manifest.app, {**stores, RESTORING: None})


async def _verified(manifest: Manifest, place: Place, progress: Progress) -> None:
    done = 0
    for file in manifest.files:
        progress("verifying, bytes", done, manifest.size_bytes - done)
        await asyncio.to_thread(place.verify, file)
        done += file.bytes


def _spec(topic: TopicEntry, replication: int | None) -> TopicSpec:
    """As a worker would create it."""
    if topic.is_changelog:
        return changelog_spec(topic.name, topic.partitions, replication)
    return TopicSpec(topic.name, topic.partitions, replication, "delete", {"retention.ms": str(INTERNAL_RETENTION_MS)})


def _moved(manifest: Manifest) -> Mapping[Partition, Committed]:
    """Repartition topics begin at what was not read yet."""
    internal = {one.name for one in manifest.topics}
    return {at: Committed(0, one.metadata) if at.topic in internal else one for at, one in manifest.offsets.items()}


async def _send_all(broker: Broker, manifest: Manifest, place: Place, progress: Progress) -> None:
    producer = broker.producer()
    await producer.start()
    try:
        done = 0
        for file in sorted(manifest.files, key=_in_order):
            progress("records", done, manifest.records - done)
            await _send(producer, file, place)
            done += file.records
        progress("records", done, 0)
    finally:
        await producer.stop()


def _in_order(file: FileEntry) -> tuple[Partition, int]:
    return file.of, int(file.path.rpartition("-")[2].removesuffix(".arrow"))


async def _send(producer: Producer, file: FileEntry, place: Place) -> None:
    schema = CHANGELOG if file.topic.endswith("-changelog") else REPARTITION
    content = await asyncio.to_thread(place.read, file)
    table = await asyncio.to_thread(decoded, content, file, schema)
    waiting: list[Awaitable[int]] = []
    for records in records_of(table):
        waiting.append(await producer.send(file.of, records))
        if len(waiting) >= UNACKNOWLEDGED_MAX:
            await waiting.pop(0)
    for acknowledged in waiting:
        await acknowledged
