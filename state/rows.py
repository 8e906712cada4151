"""The newest row of each key, as columns: what a table is made of.

    key text --KeyCodes--> code --row_of[code]--> row number --> a row of one of a few chunks (polars frames)
    bytes: key = key text (UTF-8); value = the row, as a `RowCodec` writes it; a key that is gone is a tombstone

Rows are never changed in place: a put appends a chunk and points the keys at it, so what it costs does not depend on how many
rows there are. Chunks are merged size-tiered (the tiers of an LSM tree), which is when rows that were replaced go; where most
are dead, all are rewritten. At any time there are at most about twice as many rows as keys.

Looking up many keys is one cast, one gather of numbers and one gather of rows. Asking for a key makes it known to the
dictionary; keys without a row are forgotten when they are most. Rows can be found by another column, too (`where`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from .key_codes import KeyCodes
from .slot_flags import SlotFlags
from .slots import grown
from .store import Changes, StoreWrite
from .window_keys import binary_array

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

NO_ROW: Final = -1
_DEAD_ROWS_MIN: Final = 1_000
_UNLOGGED: Final = 1
_UNSAVED: Final = 2
_CHANGED: Final = _UNLOGGED | _UNSAVED


class RowCodec(Protocol):
    """Rows as bytes and back, exactly."""

    def encode(self, frame: pl.DataFrame) -> pa.LargeBinaryArray: ...

    def decode(self, values: pa.LargeBinaryArray) -> pl.DataFrame: ...


@dataclass(slots=True)
class _Chunk:
    """Rows of numbers `base ..`, and the code of each."""

    base: int
    codes: NDArray[np.uint32]
    frame: pl.DataFrame
    index: dict[str, _Sorted] = field(default_factory=dict)
    """By column; made when rows are first asked for by it."""

    def sorted_by(self, column: str) -> _Sorted:
        if column not in self.index:
            self.index[column] = _Sorted.of(self.frame[column])
        return self.index[column]


@dataclass(frozen=True, slots=True)
class _Sorted:
    """A column's hashes in ascending order, and where in the frame each stands."""

    hashes: NDArray[np.uint64]
    order: Ints

    @classmethod
    def of(cls, column: pl.Series) -> _Sorted:
        hashes = column.hash().to_numpy()
        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], order)

    def equal(self, wanted: NDArray[np.uint64]) -> Ints:
        """Rows whose hash is one of these."""
        first = self.hashes.searchsorted(wanted)
        count = self.hashes.searchsorted(wanted, "right") - first
        ends = np.cumsum(count)
        steps = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - count, count)
        rows: Ints = self.order[np.repeat(first, count) + steps]
        return rows


class TableState:
    """All rows of one table in one task: a `DurableState`. `columns`: of a row, the key's among them if they are wanted back."""

    def __init__(self, name: str, columns: Mapping[str, pl.DataType], codec: RowCodec) -> None:
        self._name = name
        self._columns = dict(columns)
        self._codec = codec
        self._codes = KeyCodes()
        self._row_of = np.full(0, NO_ROW, np.int64)
        self._flags = SlotFlags(_CHANGED)
        self._chunks: list[_Chunk] = []
        self._next = 0
        """The number of the next row."""
        self._count = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def size_bytes(self) -> int:
        """What the rows take in memory (without the key dictionary)."""
        chunks = sum(int(chunk.frame.estimated_size()) + chunk.codes.nbytes for chunk in self._chunks)
        return chunks + self._row_of.nbytes + self._flags.size_bytes

    def __len__(self) -> int:
        """How many keys have a row."""
        return self._count

    # What operators do

    def put(self, keys: pl.Series, rows: pl.DataFrame, deleted: Flags | None = None) -> None:
        """`keys`: key texts without nulls, a row each; of several of one key the last counts. `deleted`: rows that are tombstones."""
        self._set(keys, rows, deleted, _CHANGED)

    def find(self, keys: pl.Series) -> Ints:
        """The number of each key's row, `NO_ROW` where there is none. Good until the next call of anything else."""
        self._forget()
        codes = self._known(keys)  # first: it may make the column longer
        return self._row_of[codes]

    def rows(self, numbers: Ints) -> pl.DataFrame:
        """The rows of these numbers, in their order; nulls for `NO_ROW`."""
        if not self._chunks:
            return pl.DataFrame(schema=self._columns).clear(len(numbers))
        there = numbers != NO_ROW
        at = pl.Series(self._positions(np.where(there, numbers, self._chunks[0].base)))
        if there.all():
            return self._all()[at]
        return self._all().select(pl.all().gather(at.set(pl.Series(~there), None)))

    def get_many(self, keys: pl.Series) -> pl.DataFrame:
        """`find` and `rows` in one."""
        return self.rows(self.find(keys))

    def where(self, column: str, values: pl.Series) -> Ints:
        """The numbers of all rows of which this column is one of the values (none of them null), ascending.

        What it costs grows with the rows found and with the logarithm of the others: each chunk has an index of the column.
        """
        values = values.unique()
        hashes = values.hash().to_numpy()
        found = [self._living(chunk, chunk.sorted_by(column).equal(hashes)) for chunk in self._chunks]
        numbers = np.sort(np.concatenate([np.zeros(0, np.int64), *found]))
        if not len(numbers):
            return numbers
        same = self.rows(numbers)[column].is_in(values.implode())  # equal hashes are not yet equal values
        matching: Ints = numbers[same.to_numpy()]
        return matching

    def scan(self) -> tuple[pl.Series, pl.DataFrame]:
        """All key texts, and their rows in the same order."""
        codes = np.flatnonzero(self._row_of != NO_ROW)
        return self._codes.texts(codes), self.rows(self._row_of[codes])

    # What the task does

    def take_changes(self) -> list[Changes]:
        return self._puts(_UNLOGGED)

    def take_checkpoint(self) -> StoreWrite:
        return StoreWrite(self._puts(_UNSAVED))

    def restore(self, stored: Iterable[Changes], tail: Iterable[Changes]) -> None:
        for changes in stored:
            self._load(changes, 0)
        for changes in tail:
            self._load(changes, _UNSAVED)

    # -- inside

    def _set(self, keys: pl.Series, rows: pl.DataFrame, deleted: Flags | None, flags: int) -> None:
        self._forget()
        codes = self._known(keys)
        last = len(codes) - 1 - np.unique(codes[::-1], return_index=True)[1]
        codes = codes[last]
        kept = np.ones(len(last), np.bool_) if deleted is None else ~deleted[last]
        self._count += int(kept.sum()) - int((self._row_of[codes] != NO_ROW).sum())
        self._row_of[codes[~kept]] = NO_ROW
        self._flags.put(codes, flags)
        if kept.any():
            self._append(codes[kept], rows.select(list(self._columns))[last[kept]])
        self._tidy()

    def _known(self, keys: pl.Series) -> NDArray[np.uint32]:
        codes = self._codes.codes(keys)
        if self._codes.size > len(self._row_of):
            self._row_of = grown(self._row_of, self._codes.size, NO_ROW)
            self._flags.reserve(self._codes.size)
        return codes

    def _append(self, codes: NDArray[np.uint32], frame: pl.DataFrame) -> None:
        self._row_of[codes] = np.arange(self._next, self._next + len(codes))
        self._chunks.append(_Chunk(self._next, codes, frame))
        self._next += len(codes)

    def _tidy(self) -> None:
        """Merges the newest chunks while the one before is not twice as large; all of them where most rows are dead."""
        if sum(len(chunk.codes) for chunk in self._chunks) > 2 * self._count + _DEAD_ROWS_MIN:
            self._merge(0)
            return
        at = len(self._chunks)
        while at > 1 and len(self._chunks[at - 2].codes) < 2 * sum(len(one.codes) for one in self._chunks[at - 1 :]):
            at -= 1
        if at < len(self._chunks):
            self._merge(at - 1)

    def _merge(self, first: int) -> None:
        """The chunks from `first` on become one, without the rows that were replaced."""
        merged, self._chunks = self._chunks[first:], self._chunks[:first]
        kept = [self._living(one, np.arange(len(one.codes))) - one.base for one in merged]
        codes = np.concatenate([one.codes[at] for one, at in zip(merged, kept, strict=True)])
        frames = [one.frame[at] for one, at in zip(merged, kept, strict=True)]
        if len(codes):
            self._append(codes, pl.concat(frames, rechunk=True))

    def _all(self) -> pl.DataFrame:
        return pl.concat([chunk.frame for chunk in self._chunks], rechunk=False)

    def _living(self, chunk: _Chunk, at: Ints) -> Ints:
        """The numbers of those rows of a chunk that were not replaced."""
        numbers = chunk.base + at
        living: Ints = numbers[self._row_of[chunk.codes[at]] == numbers]
        return living

    def _positions(self, numbers: Ints) -> Ints:
        """Where rows of these numbers stand in all chunks, one behind the other."""
        bases = np.array([chunk.base for chunk in self._chunks])
        starts = np.cumsum([0, *(len(chunk.codes) for chunk in self._chunks[:-1])])
        which = bases.searchsorted(numbers, "right") - 1
        positions: Ints = numbers - bases[which] + starts[which]
        return positions

    def _forget(self) -> None:
        """Renews the dictionary where most keys have no row and nothing of them is still to be told."""
        if not self._codes.should_renew:
            return
        untold = self._flags.having(_CHANGED)
        live = self._row_of != NO_ROW
        live[untold] = True
        new_of = self._codes.renew(live)
        if new_of is None:
            return
        old = np.flatnonzero(new_of >= 0)
        row_of, flags = self._row_of[old], self._flags.of(untold)
        self._row_of = grown(np.full(0, NO_ROW, np.int64), self._codes.size, NO_ROW)
        self._row_of[new_of[old]] = row_of
        self._flags = SlotFlags(_CHANGED)
        self._flags.reserve(self._codes.size)
        for flag in (_UNLOGGED, _UNSAVED):
            self._flags.add(new_of[untold[(flags & flag) > 0]], flag)
        self._chunks = [_recoded(chunk, new_of) for chunk in self._chunks]

    def _puts(self, flag: int) -> list[Changes]:
        codes = self._flags.take(flag)
        if not len(codes):
            return []
        numbers = self._row_of[codes]
        gone = numbers == NO_ROW
        keys = self._codes.texts(np.concatenate([codes[~gone], codes[gone]]))
        values = [self._codec.encode(self.rows(numbers[~gone]))] if not gone.all() else []
        if gone.any():
            values.append(pa.nulls(int(gone.sum()), pa.large_binary()))
        joined: Any = pa.concat_arrays(values)
        return [Changes(binary_array(keys.cast(pl.Binary)), joined)]

    def _load(self, changes: Changes, flags: int) -> None:
        if not len(changes):
            return
        keys = pl.Series("key", changes.keys, dtype=pl.Binary).cast(pl.String)
        gone = changes.values.is_null().to_numpy(zero_copy_only=False)
        filled: Any = changes.values.drop_null()
        rows = self._codec.decode(filled)
        at = np.where(gone, 0, np.cumsum(~gone) - 1)
        frame = rows[at] if rows.height else pl.DataFrame(schema=self._columns).clear(len(at))
        self._set(keys, frame, gone, flags)


def _recoded(chunk: _Chunk, new_of: Ints) -> _Chunk:
    """Rows of forgotten keys are dead, and stay so: they are pointed at by nobody, under whatever code."""
    codes = new_of[chunk.codes]
    return _Chunk(chunk.base, np.where(codes < 0, 0, codes).astype(np.uint32), chunk.frame)
