"""Rows that wait until the watermark has passed their time, and are then given in the order of their times.

    in memory: a few chunks, each sorted by time, whose heads are given as the watermark rises; of rows of one time the
               first by arrival comes first. Chunks of about one size are merged, so there are as many as the logarithm
               of what waits, and giving a row costs a binary search a chunk.

    bytes: "R" + number (8 bytes, ascending)   Arrow stream, lz4: rows kept since the last commit that still wait, in order of
                                               arrival, with `__time`; their numbers go on from the block's
           "W"                                 int64 (order preserving): the watermark up to which rows were given

Rows given before the commit they came in are never written. A block is deleted when its last row is given.
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .errors import CorruptStoreError, StateError
from .keys import int_key, key_int
from .store import Changes, StoreWrite

Ints = NDArray[np.int64]

BLOCK_BYTES_MAX: Final = 512 << 10
"""Of a block, before compression: a record must stay below what a broker takes (1 MiB by default)."""

TIME: Final = "__time"
_FAN_IN: Final = 4
_NEVER: Final = -(1 << 62)
_ROWS: Final = b"R"
_WATERMARK: Final = b"W"


@dataclass(slots=True)
class _Chunk:
    """Sorted by time; rows before `given` have been given. `numbers`: by arrival."""

    frame: pl.DataFrame
    times: Ints
    numbers: Ints
    given: int = 0

    def __len__(self) -> int:
        return len(self.times) - self.given

    def left(self) -> _Chunk:
        return _Chunk(self.frame[self.given :], self.times[self.given :], self.numbers[self.given :])

    def take(self, horizon: int) -> _Chunk | None:
        """The rows before the horizon that were not given yet."""
        stop = int(np.searchsorted(self.times, horizon))
        if stop <= self.given:
            return None
        part = slice(self.given, stop)
        self.given = stop
        return _Chunk(self.frame[part], self.times[part], self.numbers[part])


class WaitingRows:
    """A `DurableState`. A row is given when `W > t + wait_ms`."""

    def __init__(self, name: str, columns: Mapping[str, pl.DataType], wait_ms: int) -> None:
        self._name = name
        self._columns, self._wait_ms = dict(columns), wait_ms
        self._chunks: list[_Chunk] = []
        self._fresh: list[_Chunk] = []
        """Since the last commit, in order of arrival."""
        self._next = 0
        self._watermark = self._given_up_to = self._logged = _NEVER
        self._living: list[tuple[int, bytes]] = []
        """A heap of (largest time, key): blocks in the changelog, the first to go on top."""
        self._restored: dict[bytes, bytes] = {}
        self._unwritten: dict[bytes, bytes | None] = {}
        """What the database does not have yet; None: deleted."""

    @property
    def name(self) -> str:
        return self._name

    @property
    def rows(self) -> int:
        """That wait."""
        return sum(map(len, self._chunks))

    @property
    def size_bytes(self) -> int:
        return sum(int(chunk.frame.estimated_size()) + 16 * len(chunk.times) for chunk in self._chunks)

    # What the operator does

    def open(self, watermark: int) -> int:
        """After `restore`: rows given already go. Gives the watermark that counts."""
        self._watermark = max(watermark, self._logged)
        for key, value in sorted(self._restored.items()):
            frame = self._frame(value, key_int(key, 1))
            first, times = key_int(key, 1), frame[TIME].to_numpy()
            heapq.heappush(self._living, (int(times.max()), key))
            self._add(frame.drop(TIME), times, np.arange(first, first + len(times)))
            self._next = max(self._next, first + len(times))
        self._restored = {}
        for chunk in self._chunks:
            chunk.take(self._horizon)
        return self._watermark

    def keep(self, frame: pl.DataFrame, times: Ints) -> None:
        """Rows in order of arrival, none of them behind what was given."""
        numbers = np.arange(self._next, self._next + len(times))
        self._next += len(times)
        self._fresh.append(_Chunk(frame, times, numbers))
        self._add(frame, times, numbers)

    def advance(self, watermark: int) -> tuple[pl.DataFrame, Ints] | None:
        """The rows whose time has passed, by time and arrival."""
        self._watermark = max(self._watermark, watermark)
        parts = [part for chunk in self._chunks if (part := chunk.take(self._horizon)) is not None]
        if not parts:
            return None
        self._chunks = [chunk for chunk in self._chunks if len(chunk)]
        self._given_up_to = self._watermark
        given = _joined(parts)
        return given.frame, given.times

    # What the task does

    def restore(self, stored: Iterable[Changes], tail: Iterable[Changes]) -> None:
        for changes in stored:
            self._restored.update((key, value) for key, value in changes.pairs() if value is not None)
        for changes in tail:
            for key, value in changes.pairs():
                self._unwritten[key] = value
                if value is None:
                    self._restored.pop(key, None)
                else:
                    self._restored[key] = value
        if (logged := self._restored.pop(_WATERMARK, None)) is not None:
            self._logged = key_int(logged)

    def take_changes(self) -> list[Changes]:
        made: dict[bytes, bytes | None] = {}
        for first, frame in self._fresh_rows():
            key = _ROWS + int_key(first)
            made[key] = _block(frame)
            heapq.heappush(self._living, (int(frame[TIME].to_numpy().max()), key))
        while self._living and self._living[0][0] < self._horizon:
            made[heapq.heappop(self._living)[1]] = None
        if self._given_up_to > self._logged:
            made[_WATERMARK] = int_key(self._given_up_to)
            self._logged = self._given_up_to
        self._unwritten |= made
        return [Changes.of(list(made), list(made.values()))] if made else []

    def take_checkpoint(self) -> StoreWrite:
        given, self._unwritten = self._unwritten, {}
        return StoreWrite([Changes.of(list(given), list(given.values()))] if given else ())

    # -- inside

    @property
    def _horizon(self) -> int:
        return self._watermark - self._wait_ms

    def _add(self, frame: pl.DataFrame, times: Ints, numbers: Ints) -> None:
        order = np.argsort(times, kind="stable")
        self._chunks.append(_Chunk(frame[order], times[order], numbers[order]))
        while len(self._chunks) >= _FAN_IN and len(self._chunks[-_FAN_IN]) < 4 * len(self._chunks[-1]):
            group, self._chunks = self._chunks[-_FAN_IN:], self._chunks[:-_FAN_IN]
            self._chunks.append(_joined([chunk.left() for chunk in group]))

    def _fresh_rows(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """Blocks of bounded size, and the number of the first row of each."""
        fresh, self._fresh = self._fresh, []
        waiting = [(chunk, np.flatnonzero(chunk.times >= self._horizon)) for chunk in fresh]
        frames = [chunk.frame[at].with_columns(pl.Series(TIME, chunk.times[at])) for chunk, at in waiting if len(at)]
        if frames:
            first = next(int(chunk.numbers[0]) for chunk, at in waiting if len(at))
            yield from _cut(first, pl.concat(frames) if len(frames) > 1 else frames[0])

    def _frame(self, value: bytes, number: int) -> pl.DataFrame:
        try:
            frame = pl.read_ipc_stream(io.BytesIO(value))
        except pl.exceptions.PolarsError as error:
            raise CorruptStoreError(f"store {self._name!r}, block {number}: not a block of rows: {error}") from error
        expected = {**self._columns, TIME: pl.Int64()}
        if dict(frame.schema) != expected:
            raise StateError(
                f"store {self._name!r}, block {number}: the columns have changed: {dict(frame.schema)} in the state, "
                f"{expected} now; reset the application's state, or give the step another name to begin with an empty one"
            )
        return frame


def _joined(parts: list[_Chunk]) -> _Chunk:
    """One chunk of several, by time and arrival."""
    if len(parts) == 1:
        return parts[0]
    times = np.concatenate([part.times for part in parts])
    numbers = np.concatenate([part.numbers for part in parts])
    order = np.lexsort((numbers, times))
    return _Chunk(pl.concat([part.frame for part in parts])[order], times[order], numbers[order])


def _cut(first: int, frame: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """Parts of bounded size, by halves: rows may be of very different sizes. One row alone is never cut."""
    if frame.height == 1 or frame.estimated_size() <= BLOCK_BYTES_MAX:
        yield first, frame
        return
    half = frame.height // 2
    yield from _cut(first, frame[:half])
    yield from _cut(first + half, frame[half:])


def _block(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_ipc_stream(out, compression="lz4")
    return out.getvalue()
