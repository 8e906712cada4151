"""Reading changelogs to their end: what a task's database does not have yet.

    reader --chunk of records--> Tail.take --(more than `TAIL_BYTES_MAX` of the shard)--> spill: the database, with its position

A short tail stays in memory until its end was read and goes into the states from there. A long one (the database was lost)
goes to the database in parts, each in one atomic write with the changelog position it stands for: memory is bounded, and
a restore that is broken off goes on from there. Both are folded to the newest of each key before (`state/restore.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..state.restore import ChangelogTail, newest
from ..state.store import Changes, Database, StoreWrite
from ..topics.arrow_buffers import large_binary
from ..topics.batch import Fetch, Partition
from ..topics.broker import Reader
from .task import TaskId
from .task_meta import TaskMeta

POLL_RECORDS_MAX = 20_000
POLL_TIMEOUT_MS = 100

TAIL_BYTES_MAX = 128 << 20
"""Of one shard: what of its changelogs is kept in memory while they are read."""


@dataclass(slots=True)
class Tail:
    """One store's changelog partition, while it is read. `position`: what was taken of it so far."""

    task: TaskId
    store: str
    partition: Partition
    position: int
    end: int = 0
    records: int = 0
    changes: ChangelogTail = field(default_factory=ChangelogTail)

    @property
    def left(self) -> int:
        """Offsets up to the end: records, and what lies between them."""
        return max(self.end - self.position, 0)

    def take(self, fetch: Fetch) -> None:
        for changes in changes_of([fetch]):
            self.changes.add(self.store, changes)
        self.records += len(fetch)
        self.position = fetch.next_offset


Taken = Sequence[tuple[Tail, Fetch]]


async def read_tails(reader: Reader, tails: Iterable[Tail], take: Callable[[Taken], Awaitable[None]]) -> None:
    """Reads every tail from its position to its end, chunk by chunk. Raises TopicsError, and what `take` raises."""
    left = {tail.partition: tail for tail in tails if tail.left}
    reader.assign({partition: tail.position for partition, tail in left.items()})
    while left:
        fetches = await reader.poll(timeout_ms=POLL_TIMEOUT_MS, records_max=POLL_RECORDS_MAX)
        await take([(left[fetch.partition], fetch) for fetch in fetches if fetch.partition in left])
        left = {p: tail for p, tail in left.items() if reader.position(p) < tail.end}


def spill(database: Database, tails: Iterable[Tail], topic_ids: Mapping[str, str], digests: Mapping[str, str]) -> None:
    """Writes what was taken of some stores of one task to its database, and forgets it."""
    read = [tail for tail in tails if tail.changes.size_bytes]
    stores = [tail.store for tail in read]
    meta = TaskMeta(
        {tail.store: tail.position for tail in read},
        {store: topic_ids.get(store, "") for store in stores},
        digests={store: digests[store] for store in stores if store in digests},
    )
    database.write({tail.store: StoreWrite([newest(tail.changes.of(tail.store))]) for tail in read}, meta.encoded())
    for tail in read:
        tail.changes = ChangelogTail()


def changes_of(fetches: Iterable[Fetch]) -> Iterator[Changes]:
    """Records of a changelog as changes; a record without a key is not ours and is passed over."""
    for fetch in fetches:
        keys, values = large_binary(fetch.keys), large_binary(fetch.values)
        if keys.null_count:
            keyed = keys.is_valid()
            keys, values = keys.filter(keyed), values.filter(keyed)
        if len(keys):
            yield Changes(keys, values)
