"""`millstream backup`: changelogs folded to the newest of each key, what waits in repartition topics, and the offsets.

Nothing of a worker is asked for: state and offsets are in the cluster, and a commit binds them to each other. So it is done
from anywhere, whether the app runs or not. A partition's state is held in memory while it is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ...state.restore import ChangelogTail, newest
from ...topics.batch import Fetch, Partition
from ...topics.broker import TopicInfo
from ...workers.changelog_reader import changes_of
from ...workers.clock import monotonic_s, wall_ms
from ...workers.fingerprint_topic import read_kept
from ...workers.naming import fingerprint_topic
from ...workers.startup import COMPACTION_LAG_MS
from ..errors import BackupError
from ..reset import Known, internal_topics
from .cut import Cut, consistent_cut
from .files import PART_BYTES_MAX, changelog_tables, encoded, repartition_table
from .manifest import FileEntry, Manifest, TopicEntry
from .place import Place

if TYPE_CHECKING:
    from ...topics.broker import Broker

POLL_TIMEOUT_MS: Final = 100
POLL_RECORDS_MAX: Final = 50_000

Progress = Callable[[str, int, int], None]
"""Told (what, done, left), often."""


async def take_backup(
    broker: Broker, app: str, place: Place, progress: Progress, *, version: str, known: Known | None = None
) -> Manifest:
    """`known`: what the app's code tells of its topics; None: they are found by their names.

    Raises BackupError: there is a backup already, a restore has not ended, there is nothing to back up, or no consistent moment was found.
    """
    if await asyncio.to_thread(place.has_manifest):
        raise BackupError(f"{place.shown}: there is a backup already; give each its own folder")
    kept = await read_kept(broker, app)
    if kept is not None and kept.restoring:
        raise BackupError(
            f"app {app!r} is being restored from {kept.restoring}, or that was broken off: its state is not whole"
        )
    found = await broker.describe_topics(await internal_topics(broker, app, known))
    found.pop(fingerprint_topic(app), None)
    partitions = [Partition(name, index) for name, info in sorted(found.items()) for index in range(info.partitions)]
    repartitions = any(name.endswith("-repartition") for name in found)
    begun_s = monotonic_s()
    cut = await consistent_cut(broker, app, partitions, together=repartitions)
    if not cut.offsets and not any(cut.ends[at] > cut.begins[at] for at in partitions):
        raise BackupError(f"app {app!r} has no state and no offsets here; is this its name, and its broker?")
    files = [file async for file in _written(broker, cut, partitions, place, progress)]
    await _check_age(broker, app, cut, begun_s)
    inputs = await broker.describe_topics({at.topic for at in cut.offsets} - found.keys())
    manifest = Manifest(
        app,
        version,
        wall_ms(),
        _entries(found.values()),
        _entries(inputs.values()),
        {at: one for at, one in cut.offsets.items() if at.topic in found or at.topic in inputs},
        {} if kept is None else kept.stores,
        tuple(files),
    )
    await asyncio.to_thread(place.write_manifest, manifest)
    return manifest


def _entries(topics: Collection[TopicInfo]) -> tuple[TopicEntry, ...]:
    return tuple(TopicEntry(one.name, one.partitions) for one in sorted(topics, key=lambda one: one.name))


async def _check_age(broker: Broker, app: str, cut: Cut, begun_s: float) -> None:
    """Longer than a changelog keeps what is overwritten, something may have been overwritten before it was read."""
    took_ms = (monotonic_s() - begun_s) * 1000
    if took_ms >= COMPACTION_LAG_MS and await broker.group_offsets(app) != cut.offsets:
        raise BackupError(
            f"app {app!r} went on while its state was read for {took_ms / 1000:.0f} s, and changelogs keep what is overwritten "
            f"for {COMPACTION_LAG_MS // 1000} s only; stop its workers and take the backup then"
        )


async def _written(
    broker: Broker, cut: Cut, partitions: Iterable[Partition], place: Place, progress: Progress
) -> AsyncIterator[FileEntry]:
    for at in partitions:
        changelog = at.topic.endswith("-changelog")
        begin = cut.begins[at] if changelog or at not in cut.offsets else max(cut.begins[at], cut.offsets[at].offset)
        if begin < cut.ends[at]:
            fetches = _fetches(broker, at, begin, cut.ends[at], progress)
            tables = _folded(fetches, cut.ends[at]) if changelog else _in_order(fetches, cut.ends[at])
            part = 0
            async for table in tables:
                entry, content = await asyncio.to_thread(encoded, table, at, part)
                await asyncio.to_thread(place.write, entry.path, content)
                part += 1
                yield entry


async def _fetches(broker: Broker, at: Partition, begin: int, end: int, progress: Progress) -> AsyncIterator[Fetch]:
    reader = broker.reader()
    await reader.start()
    try:
        reader.assign({at: begin})
        while (position := reader.position(at)) < end:
            progress(str(at), position - begin, end - position)
            for fetch in await reader.poll(timeout_ms=POLL_TIMEOUT_MS, records_max=POLL_RECORDS_MAX):
                yield fetch
        progress(str(at), end - begin, 0)
    finally:
        await reader.stop()


async def _folded(fetches: AsyncIterator[Fetch], end: int) -> AsyncIterator[pa.Table]:
    """A changelog's records below the end, the newest of each key."""
    tail = ChangelogTail()
    async for fetch in fetches:
        for changes in changes_of([_below(fetch, end)]):
            tail.add("", changes)
    for table in changelog_tables(newest(tail.of(""))):
        yield table


async def _in_order(fetches: AsyncIterator[Fetch], end: int) -> AsyncIterator[pa.Table]:
    """A repartition topic's records below the end, gathered to files of some size."""
    waiting: list[pa.Table] = []
    async for fetch in fetches:
        waiting.append(repartition_table(fetch, end))
        if sum(table.nbytes for table in waiting) >= PART_BYTES_MAX:
            yield _joined(waiting)
            waiting = []
    if any(table.num_rows for table in waiting):
        yield _joined(waiting)


def _joined(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables)


def _below(fetch: Fetch, end: int) -> Fetch:
    """The records of a fetch whose offsets are below the end."""
    rows = int(np.searchsorted(fetch.offsets, end))
    if rows == len(fetch):
        return fetch
    return replace(
        fetch,
        keys=fetch.keys[:rows],
        values=fetch.values[:rows],
        offsets=fetch.offsets[:rows],
        timestamps=fetch.timestamps[:rows],
    )
