"""Times that were kept of each key, no two of one key nearer than a limit: what a row has to be compared with to be a duplicate.

    time bucket (as wide as the limit) -> {key code: time}      a key has at most one time in a bucket
    a row at t looks into the buckets before, at and behind its own

    bytes: key = start of the bucket (8 bytes, ascending) + key text; value = the time, int64 little-endian
           "closed" (`window_keys.py`) = the watermark up to which buckets were freed

A bucket is freed whole, when no row that is still on time can be near anything in it. It is a dense column by key code where
most keys are in it, else a pair of sorted columns, so that memory follows the keys that are there.

Which rows of a batch are kept is decided by arrival: the first open row of each key is kept and takes those near it with it,
then again for what is left. A key with more than `ROUNDS_MAX` kept rows in one batch is finished row by row.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, cast

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from .errors import StateError
from .key_codes import KeyCodes
from .keys import int_key, key_int
from .slots import fixed_bytes, grown
from .store import Changes, KeyRange, StoreWrite
from .window_keys import CLOSED_KEY, split_keys, window_keys

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

ROUNDS_MAX: Final = 8
_NEVER: Final = -(1 << 62)
"""As far from any time (all below `1 << 61`) as 64 bits allow."""
_SPARSE_BELOW: Final = 16
"""A bucket with fewer than one key in so many is two sorted columns."""
_DENSE_CODES_MIN: Final = 4_096


@dataclass(slots=True, eq=False)
class _Bucket:
    """`dense[code]` is the time (or `_NEVER`), or `codes` (ascending) and `times` are."""

    codes: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    times: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    dense: Ints | None = None
    unlogged: list[Ints] = field(default_factory=list)
    unsaved: list[Ints] = field(default_factory=list)
    logged: bool = False
    saved: bool = False

    def of(self, codes: Ints, size: int) -> Ints:
        """The time of each code; `size`: codes are below this."""
        if self.dense is not None:
            self.dense = grown(self.dense, size, _NEVER)
            return self.dense[codes]
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[at] == codes, self.times[at], _NEVER)

    def put(self, codes: Ints, times: Ints, size: int) -> None:
        """Codes that are not here yet, each once."""
        if self.dense is None:
            codes, times = np.concatenate([self.codes, codes]), np.concatenate([self.times, times])
            order = np.argsort(codes, kind="stable")
            self.codes, self.times = codes[order], times[order]
            if size > _DENSE_CODES_MIN and len(codes) * _SPARSE_BELOW < size:
                return
            self.dense, codes, times = np.full(0, _NEVER, np.int64), self.codes, self.times
            self.codes = self.times = np.empty(0, np.int64)
        self.dense = grown(self.dense, size, _NEVER)
        self.dense[codes] = times

    def entries(self) -> tuple[Ints, Ints]:
        """Codes, ascending, and their times."""
        if self.dense is None:
            return self.codes, self.times
        codes = np.flatnonzero(self.dense != _NEVER)
        return codes, self.dense[codes]

    def renamed(self, new_of: Ints, size: int) -> None:
        codes, times = self.entries()
        self.codes, self.times, self.dense = np.empty(0, np.int64), np.empty(0, np.int64), None
        self.put(new_of[codes], times, size)
        self.unlogged = [new_of[some] for some in self.unlogged]
        self.unsaved = [new_of[some] for some in self.unsaved]

    @property
    def size_bytes(self) -> int:
        return self.codes.nbytes + self.times.nbytes + (0 if self.dense is None else self.dense.nbytes)


class KeptTimes:
    """A `DurableState`. `within_ms`: nearer than this is a duplicate; `grace_ms`: how late a row may be and still be judged."""

    def __init__(self, name: str, within_ms: int, grace_ms: int) -> None:
        self._name = name
        self.within_ms, self.grace_ms = within_ms, grace_ms
        self._codes = KeyCodes()
        self._buckets: dict[int, _Bucket] = {}
        self._tombstones: list[Changes] = []
        """Of freed buckets, for the changelog."""
        self._gone: set[int] = set()
        """Freed buckets of which the database has something."""
        self._closed = _NEVER
        self._closed_logged = self._closed_saved = _NEVER

    @property
    def name(self) -> str:
        return self._name

    @property
    def rows(self) -> int:
        """Times that are kept."""
        return sum(len(bucket.entries()[0]) for bucket in self._buckets.values())

    @property
    def size_bytes(self) -> int:
        """Without the key dictionary."""
        return sum(bucket.size_bytes for bucket in self._buckets.values())

    # What the operator does

    def open(self, watermark: int) -> int:
        """After `restore`. Gives the watermark that counts: the larger of the committed one and that kept here."""
        reached = max(watermark, self._closed)
        self.advance(reached)
        return reached

    def keep(self, keys: pl.Series, times: Ints) -> Flags:
        """Which rows, in order of arrival, are near to nothing kept; these are kept from now on. `keys`: texts, no nulls."""
        codes = self._codes.codes(keys).astype(np.int64)
        kept = np.zeros(len(codes), np.bool_)
        fresh = np.flatnonzero(~self._near(codes, times))
        kept[fresh[first_of_each(codes[fresh], times[fresh], self.within_ms, self._codes.size)]] = True
        rows = np.flatnonzero(kept)
        for number, at in _by_bucket(times[rows], self.within_ms):
            self._put(number, codes[rows[at]], times[rows[at]])
        return kept

    def advance(self, watermark: int) -> None:
        """Frees what no row on time can be near to."""
        last = (watermark - self.grace_ms - self.within_ms + 1) // self.within_ms - 1
        if not self._buckets or min(self._buckets) > last:
            return
        for number in sorted(number for number in self._buckets if number <= last):
            self._free(number, self._buckets.pop(number))
        self._closed = max(self._closed, watermark)
        if self._codes.should_renew:
            self._renew()

    # What the task does

    def restore(self, stored: Iterable[Changes], tail: Iterable[Changes]) -> None:
        frames = [_frame(changes, saved=True) for changes in stored] + [
            _frame(changes, saved=False) for changes in tail
        ]
        if not frames:
            return
        found = pl.concat(frames).with_columns(ever_saved=pl.col("saved").any().over("key"))
        found = found.unique("key", keep="last", maintain_order=True)
        closed = found.filter(pl.col("key") == CLOSED_KEY)
        if closed.height:
            self._closed = self._closed_logged = key_int(closed["value"][0])
            self._closed_saved = self._closed if closed["saved"][0] else _NEVER
        found = found.filter(pl.col("key") != CLOSED_KEY)
        starts, texts = (
            split_keys(cast(pa.LargeBinaryArray, found["key"].to_arrow())) if found.height else (_EMPTY, _TEXTS)
        )
        gone = found["value"].is_null()
        self._gone |= {int(start) // self.within_ms for start in starts[gone.to_numpy()]}
        living = ~gone
        self._load(starts[living.to_numpy()], texts.filter(living), found.filter(living))

    def take_changes(self) -> list[Changes]:
        made, self._tombstones = self._tombstones, []
        for number, bucket in self._buckets.items():
            if bucket.unlogged:
                made.append(self._puts(number, bucket, np.concatenate(bucket.unlogged)))
                bucket.unlogged, bucket.logged = [], True
        if self._closed > self._closed_logged:
            made.append(Changes.of([CLOSED_KEY], [int_key(self._closed)]))
            self._closed_logged = self._closed
        return made

    def take_checkpoint(self) -> StoreWrite:
        changes = []
        for number, bucket in self._buckets.items():
            if bucket.unsaved:
                changes.append(self._puts(number, bucket, np.concatenate(bucket.unsaved)))
                bucket.unsaved, bucket.saved = [], True
        if self._closed > self._closed_saved:
            changes.append(Changes.of([CLOSED_KEY], [int_key(self._closed)]))
            self._closed_saved = self._closed
        gone, self._gone = sorted(self._gone), set()
        width = self.within_ms
        return StoreWrite(changes, [KeyRange(int_key(one * width), int_key((one + 1) * width)) for one in gone])

    # -- inside

    def _near(self, codes: Ints, times: Ints) -> Flags:
        """Which rows are near to something kept before this batch."""
        near = np.zeros(len(codes), np.bool_)
        for number, at in _by_bucket(times, self.within_ms):
            for beside in (number - 1, number, number + 1):
                if (bucket := self._buckets.get(beside)) is not None:
                    apart = np.abs(times[at] - bucket.of(codes[at], self._codes.size))
                    near[at] |= apart < self.within_ms
        return near

    def _put(self, number: int, codes: Ints, times: Ints) -> None:
        bucket = self._buckets.setdefault(number, _Bucket())
        bucket.put(codes, times, self._codes.size)
        bucket.unlogged.append(codes)
        bucket.unsaved.append(codes)

    def _free(self, number: int, bucket: _Bucket) -> None:
        if bucket.saved:
            self._gone.add(number)
        if bucket.logged:
            codes, _ = bucket.entries()
            told = np.setdiff1d(codes, np.concatenate(bucket.unlogged)) if bucket.unlogged else codes
            keys = self._keys(number, told)
            self._tombstones.append(Changes(keys, pa.nulls(len(told), pa.large_binary())))

    def _puts(self, number: int, bucket: _Bucket, codes: Ints) -> Changes:
        return Changes(self._keys(number, codes), fixed_bytes([bucket.of(codes, self._codes.size)]))

    def _keys(self, number: int, codes: Ints) -> pa.LargeBinaryArray:
        return window_keys(np.full(len(codes), number * self.within_ms), self._codes.texts(codes))

    def _renew(self) -> None:
        """Forgets keys of which nothing is kept, where these are most."""
        live = np.zeros(self._codes.size, np.bool_)
        for bucket in self._buckets.values():
            live[bucket.entries()[0]] = True
        new_of = self._codes.renew(live)
        if new_of is not None:
            for bucket in self._buckets.values():
                bucket.renamed(new_of, self._codes.size)

    def _load(self, starts: Ints, texts: pl.Series, found: pl.DataFrame) -> None:
        codes = self._codes.codes(texts).astype(np.int64)
        times, saved = _times(found["value"], self._name), found["saved"].to_numpy()
        ever_saved = found["ever_saved"].to_numpy()
        for number, at in _by_bucket(starts, self.within_ms):
            bucket = self._buckets[number] = _Bucket(logged=True, saved=bool(ever_saved[at].any()))
            bucket.put(codes[at], times[at], self._codes.size)
            if not saved[at].all():
                bucket.unsaved.append(codes[at][~saved[at]])


_EMPTY: Final = np.empty(0, np.int64)
_TEXTS: Final = pl.Series("key", [], dtype=pl.String)


def first_of_each(codes: Ints, times: Ints, within_ms: int, size: int) -> Ints:
    """The rows, in order of arrival, that are nearer than `within_ms` to no row of their code taken before them."""
    taken: list[Ints] = []
    left = np.arange(len(codes))
    first = np.empty(size, np.int64)
    for _ in range(ROUNDS_MAX):
        if not len(left):
            break
        mine = codes[left]
        first[mine[::-1]] = left[::-1]  # of several the last assignment stays, so the first row
        ahead = first[mine]
        taken.append(left[ahead == left])
        left = left[np.abs(times[left] - times[ahead]) >= within_ms]
    if len(left):
        taken.append(left[_one_by_one(codes[left].tolist(), times[left].tolist(), within_ms)])
    return np.concatenate(taken) if taken else _EMPTY


def _one_by_one(codes: list[int], times: list[int], within_ms: int) -> list[int]:
    """The same, a row at a time: for keys of which very many rows of a batch are taken."""
    taken: list[int] = []
    by_code: dict[int, list[int]] = {}
    for row, (code, time) in enumerate(zip(codes, times, strict=True)):
        kept = by_code.setdefault(code, [])
        at = bisect_left(kept, time)
        beside = kept[max(0, at - 1) : at + 1]
        if all(abs(time - other) >= within_ms for other in beside):
            kept.insert(at, time)
            taken.append(row)
    return taken


def _by_bucket(times: Ints, width: int) -> Iterator[tuple[int, Ints]]:
    """Bucket numbers, and the rows of each in order of arrival."""
    if not len(times):
        return
    which = times // width
    first, last = int(which.min()), int(which.max())
    if first == last:
        yield first, np.arange(len(times))
        return
    order = np.argsort(which, kind="stable")
    for at in np.split(order, np.flatnonzero(np.diff(which[order])) + 1):
        yield int(which[at[0]]), at


def _frame(changes: Changes, *, saved: bool) -> pl.DataFrame:
    columns = [pl.Series("key", changes.keys, dtype=pl.Binary), pl.Series("value", changes.values, dtype=pl.Binary)]
    return pl.DataFrame(columns).with_columns(saved=pl.lit(saved))


def _times(values: pl.Series, name: str) -> Ints:
    if not (values.bin.size() == 8).all():
        raise StateError(
            f"store {name!r}: a time kept has 8 bytes; the step was changed under its state, reset the app"
        )
    return np.frombuffer(b"".join(values.to_list()), "<i8").astype(np.int64)
