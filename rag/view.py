"""Keeps a `ViewState` in step with `index-updates`: reads all its partitions, outside any group, committed records only.

    start: load the checkpoint -> read from its positions -> caught up with the ends seen at the start: ready
    then:  apply updates in small batches, a question between any two; a checkpoint now and then; a rebuild in a thread
           a look for new partitions now and then, and when a question names one: they are read from their beginning

The thin shell: what is decided is in `view_state.py`. Everything happens in one event loop, so nothing is locked. A broker that
cannot be reached is asked again; a disk that is full ends the view, and with it every question, with that error.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from ..state.store import Database
from ..topics.batch import Fetch, Partition
from ..topics.broker import Broker, Reader
from ..topics.errors import BrokerUnavailableError
from .errors import IndexUnavailableError, NotFreshError
from .following import kept_up
from .index import Index, Rebuild
from .remote_index import RemoteIndex
from .settings import ViewSettings
from .view_state import ViewPlan, ViewState

_LOG: Final = logging.getLogger(__name__)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class IndexView:
    """`run` it as a task; everything else may be called meanwhile. `folder`: where graphs are saved, beside the database."""

    def __init__(
        self,
        broker: Broker,
        topic: str,
        model: str,
        dimensions: int,
        open_database: Callable[[], Database],
        *,
        settings: ViewSettings | None = None,
        language: str = "english",
        folder: Path | None = None,
        clock_ms: Callable[[], int] = _wall_ms,
        only: int | None = None,
    ) -> None:
        """`only`: the one partition that is read, where a process holds a shard of the index; None: all."""
        self.settings = settings or ViewSettings()
        self._broker = broker
        self._topic = topic
        self._model = model
        self._dimensions = dimensions
        self._open_database = open_database
        self._language = language
        self._folder = folder
        self._clock_ms = clock_ms
        self._only = only
        self._state: ViewState | None = None
        self._targets: dict[int, int] | None = None
        self._failure: BaseException | None = None
        self._moved = asyncio.Event()
        self.rebuilding: _Rebuilding | None = None
        """Under way in a thread."""
        self._checked_at_ms = 0
        self._looked_at_ms = 0
        self._look_wanted = False
        self._looks_begun = self._looks_done = 0
        self.listeners: list[Callable[[Sequence[bytes]], None]] = []
        """Called with the keys of the records that were applied, in the event loop, once the index has caught up at its start."""
        self.restarted: list[Callable[[], None]] = []
        """Called when the index was thrown away and is read anew: everything in it may be another. It is ready again later."""

    # Asked by questions

    @property
    def is_ready(self) -> bool:
        """Whether everything that was there at the start is in."""
        return self._targets is not None and self._passed(self._targets)

    @property
    def state(self) -> ViewState:
        """Raises NotFreshError before the topic is there."""
        if self._state is None:
            raise NotFreshError(f"the index is not there yet: topic {self._topic!r} has not been read")
        return self._state

    def positions(self) -> dict[int, int]:
        """Next offset by partition."""
        return dict(self._state.positions) if self._state is not None else {}

    async def wait_ready(self, timeout_ms: int) -> None:
        """Raises NotFreshError saying how far it has come, or what ended the view."""
        await self._wait(lambda: self.is_ready, timeout_ms, "is still catching up")

    async def wait_passed(self, offsets: Mapping[int, int], timeout_ms: int) -> None:
        """Until the records at these offsets are in (read your own writes). Raises NotFreshError."""
        if self._unknown(offsets) and self.is_ready:
            await self._wait_looked(timeout_ms)
        unknown = self._unknown(offsets)
        if unknown and self.is_ready:
            raise NotFreshError(f"{self._topic!r} has no partition {unknown[0]}; it has {len(self.positions())}")
        wanted = {partition: offset + 1 for partition, offset in offsets.items()}
        await self._wait(lambda: self._passed(wanted), timeout_ms, f"has not reached {dict(offsets)}")

    def _unknown(self, offsets: Mapping[int, int]) -> list[int]:
        return [partition for partition in offsets if partition not in self.positions()]

    async def _wait_looked(self, timeout_ms: int) -> None:
        """Until a look for new partitions that began after now is done; all who wait share one."""
        wanted = self._looks_begun + 1
        self._look_wanted = True
        await self._wait(lambda: self._looks_done >= wanted, timeout_ms, "has not looked for new partitions")

    def _passed(self, wanted: Mapping[int, int]) -> bool:
        positions = self.positions()
        return all(positions.get(partition, 0) >= offset for partition, offset in wanted.items())

    async def _wait(self, is_done: Callable[[], bool], timeout_ms: int, what: str) -> None:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while not is_done():
                    self._raise_failure()
                    await self._moved.wait()
        except TimeoutError:
            raise NotFreshError(f"the index {what} after {timeout_ms} ms: it is at {self.positions()}") from None

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise NotFreshError(f"the index has ended: {type(self._failure).__name__}: {self._failure}")

    def _tell(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    # The life of the view

    async def run(self) -> None:
        """Until cancelled; then a last checkpoint. Raises StateError (disk), ConfigurationError (rights, the topic)."""
        try:
            database = self._open_database()
        except BaseException as error:
            self._failure = error
            self._tell()
            raise
        try:
            away = BrokerUnavailableError, IndexUnavailableError
            await kept_up("index view", partial(self._follow, database), self.settings.retry_pause_ms, away)
        except asyncio.CancelledError:
            self._checkpoint_at_the_end()
            raise
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._failure = self._failure or NotFreshError("it was stopped")
            self._tell()
            if self._state is not None and isinstance(self._state.index, RemoteIndex):
                self._state.index.close()
            database.close()

    def _checkpoint_at_the_end(self) -> None:
        if self._state is not None and self._state.pending:
            try:
                self._state.checkpoint(self._clock_ms())
            except IndexUnavailableError as error:
                _LOG.warning("index view: no last checkpoint, the one before it is good: %s", error)

    async def _pause(self) -> None:
        await asyncio.sleep(self.settings.retry_pause_ms / 1000)

    async def _follow(self, database: Database) -> None:
        reader = self._broker.reader(isolation="read_committed")
        await reader.start()
        try:
            state = await self._opened(database)
            await self._begin(reader, state)
            while await self._step(reader, state):
                continue
        finally:
            await reader.stop()

    async def _opened(self, database: Database) -> ViewState:
        """The state for the topic as it is now; waits for the topic to be made."""
        while self._topic not in (found := await self._broker.describe_topics([self._topic])):
            await self._pause()
        info = found[self._topic]
        plan = ViewPlan(self._topic, info.topic_id, self._model, self._dimensions, self.settings.index, self._language)
        if self._state is None or self._state.plan != plan:
            state = ViewState(plan, database, self._folder, tenant_indexes_max=self.settings.tenant_indexes_max)
            age_ms = self._clock_ms() - (state.saved_at_ms or 0)
            if state.saved_at_ms is not None and age_ms > self.settings.checkpoint_age_max_ms:
                _LOG.warning("index view: the checkpoint is %d ms old: the topic is read from its beginning", age_ms)
                state.clear()
            if self._state is not None:
                self._tell_restarted()
            self._state, self._targets = state, None
            self._checked_at_ms = self._clock_ms()
        self._looked_at_ms = self._clock_ms()
        for partition in self._read(info.partitions):
            self._state.positions.setdefault(partition, 0)
        return self._state

    def _read(self, partitions: int) -> Sequence[int]:
        """Of so many that there are."""
        return [one for one in range(partitions) if self._only is None or one == self._only]

    async def _begin(self, reader: Reader, state: ViewState) -> None:
        """Where to read on. Records deleted before we read them may have been removals: then from the beginning."""
        partitions = [Partition(self._topic, index) for index in sorted(state.positions)]
        begins, ends = await reader.begin_offsets(partitions), await reader.end_offsets(partitions)
        behind = [one for one in partitions if state.positions[one.index] not in range(begins[one], ends[one] + 1)]
        if behind:
            self._restart(state)
            state.positions.update({one.index: begins[one] for one in partitions})
        if self._targets is None:
            self._targets = {one.index: ends[one] for one in partitions}
        reader.assign({one: state.positions[one.index] for one in partitions})
        self._tell()

    def _restart(self, state: ViewState) -> None:
        """Ready again when what is there now is in."""
        state.clear()
        self._targets = None
        self._tell_restarted()

    def _tell_restarted(self) -> None:
        for listener in self.restarted:
            listener()

    async def _step(self, reader: Reader, state: ViewState) -> bool:
        """False: the topic was made anew, and the view has to begin again."""
        for fetch in await reader.poll(
            timeout_ms=self.settings.poll_timeout_ms, records_max=self.settings.poll_records_max
        ):
            await self._apply(state, fetch)
        self._checkpoint_if_due(state)
        self._rebuild_if_wanted(state)
        waited_ms = self._clock_ms() - self._looked_at_ms
        if self._look_wanted or waited_ms >= self.settings.partitions_interval_ms:
            return await self._look(reader, state)
        return True

    async def _look(self, reader: Reader, state: ViewState) -> bool:
        """For new partitions. One is not waited for by `is_ready`, which is about what was there at the start."""
        self._look_wanted = False
        self._looks_begun += 1
        looks = self._looks_begun
        self._looked_at_ms = self._clock_ms()
        info = (await self._broker.describe_topics([self._topic])).get(self._topic)
        if info is None or info.topic_id != state.plan.topic_id:
            return False
        added = [Partition(self._topic, one) for one in self._read(info.partitions) if one not in state.positions]
        if added:
            begins = await reader.begin_offsets(added)
            state.positions.update({one.index: begins[one] for one in added})
            reader.assign({Partition(self._topic, index): offset for index, offset in state.positions.items()})
            _LOG.info("index view: %r has %d partitions now", self._topic, info.partitions)
        self._looks_done = looks
        self._tell()
        return True

    async def _apply(self, state: ViewState, fetch: Fetch) -> None:
        size = self.settings.live_records_max if self.is_ready else self.settings.apply_records_max
        records = list(zip(fetch.keys, fetch.values, strict=True))
        for start in range(0, max(1, len(records)), size):
            stop = start + size
            next_offset = fetch.next_offset if stop >= len(records) else int(fetch.offsets[stop])
            state.apply(fetch.partition.index, next_offset, records[start:stop])
            self._tell()
            keys = [key for key, _ in records[start:stop] if key is not None]
            for listener in self.listeners if self.is_ready else ():
                listener(keys)
            if isinstance(state.index, RemoteIndex):
                await state.index.settle()
            await asyncio.sleep(0)  # a question may come between

    def _checkpoint_if_due(self, state: ViewState) -> None:
        now_ms = self._clock_ms()
        waited = now_ms - self._checked_at_ms >= self.settings.checkpoint_interval_ms
        if state.pending >= self.settings.checkpoint_records or (waited and state.pending):
            state.checkpoint(now_ms)
        if waited:
            self._checked_at_ms = now_ms

    def _rebuild_if_wanted(self, state: ViewState) -> None:
        under_way = self.rebuilding
        if under_way is not None and under_way.task.done():
            self.rebuilding = None
            under_way.task.result()
            is_there = any(under_way.index is index for index in state.indexes())
            if is_there and not under_way.index.finish_rebuild(under_way.work):
                self.rebuilding = _Rebuilding(under_way.index, under_way.work)
        elif under_way is None and (wanting := [index for index in state.indexes() if index.wants_rebuild]):
            self.rebuilding = _Rebuilding(wanting[0], wanting[0].begin_rebuild())


class _Rebuilding:
    """A round of a rebuild in its thread. The index may be there no more when it ends: then it was for nothing."""

    def __init__(self, index: Index, work: Rebuild) -> None:
        self.index = index
        self.work = work
        self.task = asyncio.create_task(asyncio.to_thread(work.run))
