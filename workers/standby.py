"""Warm copies of shards that others own: their changelogs are followed into our own databases, so that a failover replays a tail only.

    assigned -> keep(shards) -> [ open -> (read a chunk -> keep it -> write, once a second)* -> write, close ]

The assignor says which shards (`ShardAssignor.standbys`), and gives a shard to who has the furthest copy when its owner is
gone. Only databases are kept, no operators: what a copy takes is disk, one chunk in memory, and the reading. That has limits,
for it must never cost the shards that are worked on here: a chunk of records at a time, with a pause after each, in the
threads of the restores. What is written is committed (read_committed), together with the position it stands for, exactly as a
restore does it (`changelog_reader.py`); so an owner cannot tell such a database from its own.

It does not take over anything: a shard that becomes ours is closed here first (`keep`), then taken as every shard is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..state.errors import CorruptStoreError
from ..state.store import Database
from ..topics.batch import Partition
from ..topics.broker import Reader
from ..topics.errors import TopicsError
from .changelog_reader import Tail, spill
from .clock import monotonic_s
from .naming import changelog_topic
from .statistics import StandbyStatistics
from .surroundings import Surroundings
from .task import TaskId
from .task_meta import usable_meta
from .threads import in_executor

log = logging.getLogger("millstream.worker")

CHUNK_RECORDS_MAX = 20_000
"""Read at a time, over all copies of a worker."""

POLL_TIMEOUT_MS = 20
"""Short: a rebalance that takes a copy away waits for it."""

PAUSE_S = 0.05
"""After each chunk, so that following costs no more than 400,000 records a second."""

IDLE_S = 0.2
"""After a poll without records, and while there is nothing to keep."""

WRITE_EVERY_S = 1.0
WRITE_BYTES_MAX = 16 << 20
"""What was read is in the database after so long, or as soon as it is so much."""


@dataclass(slots=True)
class Copy:
    """One shard's databases, and how far they are."""

    databases: dict[TaskId, Database] = field(default_factory=dict)
    tails: list[Tail] = field(default_factory=list)

    @property
    def records_behind(self) -> int:
        return sum(tail.left for tail in self.tails)

    @property
    def position(self) -> int:
        return sum(tail.position for tail in self.tails)

    @property
    def unwritten_bytes(self) -> int:
        return sum(tail.changes.size_bytes for tail in self.tails)


class Standbys:
    """`stores`: by sub-topology; `is_free`: whether nobody here has the shard's databases open."""

    def __init__(
        self, around: Surroundings, stores: Mapping[str, Sequence[str]], is_free: Callable[[int], bool]
    ) -> None:
        self._around = around
        self._stores = stores
        self._is_free = is_free
        self._wanted: frozenset[int] = frozenset()
        self._copies: dict[int, Copy] = {}
        self._reader: Reader | None = None
        self._round = asyncio.Lock()
        """Held while a chunk is read and written: nobody closes a database in the middle of it."""
        self._written_s = monotonic_s()
        self._troubled = False

    def statistics(self) -> tuple[StandbyStatistics, ...]:
        copies = sorted(self._copies.items())
        return tuple(StandbyStatistics(shard, copy.records_behind, copy.position) for shard, copy in copies)

    def positions(self) -> dict[int, int]:
        """By shard how far its copy is, what is not written yet included: it is before anybody else opens the databases."""
        return {shard: copy.position for shard, copy in self._copies.items() if copy.tails}

    async def keep(self, shards: frozenset[int]) -> None:
        """Exactly these from now on. When it returns, the others are closed, and their owner may open them. Raises StateError."""
        async with self._round:
            self._wanted = shards
            gone = [shard for shard in self._copies if shard not in shards]
            await self._close(gone)
            if gone:
                self._read_on()

    async def run(self) -> None:
        """Until it is cancelled. Raises StateError: a disk that is full holds up the owner of nothing, but must be seen."""
        try:
            while True:
                async with self._round:
                    pause_s = await self._follow()
                await asyncio.sleep(pause_s)
        finally:
            async with self._round:
                await self._let_go_of_reader()
                await self._close(list(self._copies))

    async def _follow(self) -> float:
        """One round; how long to rest after it."""
        try:
            await self._open()
            if self._reader is None:
                return IDLE_S
            records = await self._read(self._reader)
        except TopicsError as error:
            if not self._troubled:
                log.warning("warm copies wait for the broker: %s", error)
            self._troubled = True
            await self._let_go_of_reader()
            return self._around.settings.retry_backoff_ms / 1000
        self._troubled = False
        if self._is_time_to_write():
            await self._write(list(self._copies))
        return PAUSE_S if records else IDLE_S

    # -- beginning and end of a copy

    async def _open(self) -> None:
        """Those that are wanted, are not there, and are nobody's here; and the reader, if there is anything to read."""
        opened = False
        for shard in sorted(self._wanted - self._copies.keys()):
            if self._is_free(shard):
                self._copies[shard] = Copy()  # known before it is open, so that it is closed whatever comes in between
                await in_executor(self._around.restorer, partial(self._open_copy, shard))
                opened = True
        if self._copies and self._reader is None:
            reader = self._around.broker.reader(isolation="read_committed")
            await reader.start()
            self._reader = reader
            opened = True
        if opened and self._reader is not None:
            await self._find_ends(self._reader)
            self._read_on()

    def _open_copy(self, shard: int) -> None:
        copy = self._copies[shard]
        for sub in self._around.topology.tasks_of(shard):
            if stores := self._stores.get(sub.name, ()):
                task = TaskId(sub.name, shard)
                database = copy.databases[task] = self._database(task)
                meta = usable_meta(database, list(stores), (), self._around.topic_ids, self._around.digests)
                for store in stores:
                    changelog = Partition(changelog_topic(self._around.settings.name, store), shard)
                    copy.tails.append(Tail(task, store, changelog, meta.changelog.get(store, 0)))

    def _database(self, task: TaskId) -> Database:
        name = f"{task.sub}/{task.partition}"
        try:
            return self._around.databases.open(name)
        except CorruptStoreError as error:
            place = self._around.databases.set_aside(name)
            log.warning("warm copy of shard %d: %s; it is moved to %s and begun anew", task.partition, error, place)
            return self._around.databases.open(name)

    async def _find_ends(self, reader: Reader) -> None:
        """Positions that the changelogs still have, and how far behind we are."""
        tails = [tail for copy in self._copies.values() for tail in copy.tails]
        begins = await reader.begin_offsets([tail.partition for tail in tails])
        ends = await reader.end_offsets([tail.partition for tail in tails])
        for tail in tails:
            tail.position = max(tail.position, begins[tail.partition])
            tail.end = max(ends[tail.partition], tail.position)

    def _read_on(self) -> None:
        if self._reader is not None:
            tails = [tail for copy in self._copies.values() for tail in copy.tails]
            self._reader.assign({tail.partition: tail.position for tail in tails})

    async def _close(self, shards: Sequence[int]) -> None:
        """With everything that was read of them written."""
        await self._write(shards)
        for shard in shards:
            for database in self._copies.pop(shard).databases.values():
                await in_executor(self._around.restorer, database.close)

    async def _let_go_of_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.stop()

    # -- a chunk

    async def _read(self, reader: Reader) -> int:
        fetches = await reader.poll(timeout_ms=POLL_TIMEOUT_MS, records_max=CHUNK_RECORDS_MAX)
        tails = {tail.partition: tail for copy in self._copies.values() for tail in copy.tails}

        def take() -> None:
            for fetch in fetches:
                if (tail := tails.get(fetch.partition)) is not None:
                    tail.take(fetch)
                    tail.end = max(fetch.end_offset, tail.position)

        await in_executor(self._around.restorer, take)
        return sum(map(len, fetches))

    def _is_time_to_write(self) -> bool:
        unwritten = sum(copy.unwritten_bytes for copy in self._copies.values())
        return unwritten >= WRITE_BYTES_MAX or monotonic_s() - self._written_s >= WRITE_EVERY_S

    async def _write(self, shards: Sequence[int]) -> None:
        for shard in shards:
            copy = self._copies[shard]
            if copy.unwritten_bytes:
                await in_executor(self._around.restorer, partial(self._write_copy, copy))
            self._around.positions[shard] = copy.position
        self._written_s = monotonic_s()

    def _write_copy(self, copy: Copy) -> None:
        for task, database in copy.databases.items():
            mine = [tail for tail in copy.tails if tail.task == task]
            spill(database, mine, self._around.topic_ids, self._around.digests)
