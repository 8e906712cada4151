"""Reading changelogs to their end: what a task's database does not have yet.

A tail is kept in memory until its end was read, folded to the newest of each key whenever it has doubled
(`state/restore.py`), so that it stays near the size of the state itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..state.restore import ChangelogTail
from ..state.store import Changes
from ..topics.arrow_buffers import large_binary
from ..topics.batch import Fetch, Partition
from ..topics.broker import Broker
from .task import TaskId

POLL_RECORDS_MAX = 100_000
POLL_TIMEOUT_MS = 100


@dataclass(slots=True)
class Tail:
    """One store's changelog partition, while it is read."""

    task: TaskId
    store: str
    partition: Partition
    start: int
    end: int = 0
    records: int = 0
    changes: ChangelogTail = field(default_factory=ChangelogTail)


Progress = Callable[[Tail, int], None]
"""Told (tail, offsets left)."""


async def read_tails(broker: Broker, tails: list[Tail], progress: Progress) -> None:
    """Reads every tail to the end its partition has now (read_committed: the last stable offset). Raises TopicsError."""
    if not tails:
        return
    reader = broker.reader(isolation="read_committed")
    await reader.start()
    try:
        partitions = [tail.partition for tail in tails]
        begins = await reader.begin_offsets(partitions)
        ends = await reader.end_offsets(partitions)
        for tail in tails:
            tail.start = max(tail.start, begins[tail.partition])
            tail.end = ends[tail.partition]
        open_tails = {tail.partition: tail for tail in tails if tail.start < tail.end}
        reader.assign({partition: tail.start for partition, tail in open_tails.items()})
        while open_tails:
            for fetch in await reader.poll(timeout_ms=POLL_TIMEOUT_MS, records_max=POLL_RECORDS_MAX):
                if (reading := open_tails.get(fetch.partition)) is not None:
                    for changes in changes_of([fetch]):
                        reading.changes.add(reading.store, changes)
                    reading.records += len(fetch)
                    progress(reading, max(reading.end - fetch.next_offset, 0))
            open_tails = {p: tail for p, tail in open_tails.items() if reader.position(p) < tail.end}
    finally:
        await reader.stop()


def by_task(tails: list[Tail]) -> Mapping[TaskId, dict[str, list[Changes]]]:
    """What was read, by task and store."""
    grouped: dict[TaskId, dict[str, list[Changes]]] = {}
    for tail in tails:
        grouped.setdefault(tail.task, {})[tail.store] = tail.changes.of(tail.store)
    return grouped


def changes_of(fetches: Iterable[Fetch]) -> Iterator[Changes]:
    """Records of a changelog as changes; a record without a key is not ours and is passed over."""
    for fetch in fetches:
        keyed = [row for row, key in enumerate(fetch.keys) if key is not None]
        if keyed:
            keys = [fetch.keys[row] for row in keyed]
            yield Changes(large_binary(keys), large_binary([fetch.values[row] for row in keyed]))
