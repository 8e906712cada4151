"""Aligned windows by key: open ones in memory by slot, told to the changelog at commits and to the database at checkpoints.

    windows[end] -> Window: slot_of[code], codes[slot], flags[slot], one accumulator an aggregate
    bytes: key = window end (8 bytes, order-preserving) + key text; value = packed accumulators (`slots.pack`)
           key = b"\\x00closed"; value = the watermark up to which windows are closed (8 bytes, order-preserving)

A window is closed, given and freed whole once `watermark >= end + grace`. One that opened and closed between two commits
was never in the changelog, one between two checkpoints never in the database. The end stands first in a key, so that what
closed is one range of the database. "Closed up to" is kept with the windows because committed offsets can expire or be
reset while the state stays: a window that was given once must not open again.

It does not judge lateness (`workers/operators/window_aggregate.py` does), does not know the reducers, and holds all open
windows in memory: `Window` is the unit that would be written out and read back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .key_codes import KeyCodes
from .keys import int_key, key_int
from .slot_flags import SlotFlags
from .slots import Accumulator, Part, ResultRows, Slots, Values, distinct, grown, pack, plain, unpack
from .store import Changes, KeyRange, StoreWrite
from .window_keys import CLOSED_KEY, WINDOW_KEY_BYTES_MIN, split_keys, window_keys

_UNEMITTED: Final = 1
_UNLOGGED: Final = 2
_UNSAVED: Final = 4
_LOGGED: Final = 8
"""Flags of a slot: changed since it was last given, told to the changelog, told to the database; the changelog has seen it."""

_CHANGED: Final = _UNEMITTED | _UNLOGGED | _UNSAVED


class Window:
    """The keys of one window."""

    def __init__(self, accumulators: Sequence[Accumulator]) -> None:
        self.accumulators = accumulators
        self.in_database = False
        """Whether a checkpoint has seen it."""
        self.used = 0
        self._slot_of = np.full(0, -1, np.int32)
        self._codes = np.zeros(0, np.uint32)
        self._flags = SlotFlags(_CHANGED)

    def slots(self, codes: NDArray[Any], codes_size: int) -> Slots:
        """The slots of these codes, all below `codes_size`; new ones get a slot."""
        self._slot_of = grown(self._slot_of, codes_size, -1)
        slots: Slots = self._slot_of[codes]
        if len(slots) and slots.min() < 0:
            self._open(distinct(codes[slots < 0], codes_size))
            slots = self._slot_of[codes]
        return slots

    def _open(self, codes: NDArray[Any]) -> None:
        first, self.used = self.used, self.used + len(codes)
        if self.used > len(self._codes):
            self._codes = grown(self._codes, self.used, 0)
            self._flags.reserve(self.used)
            for accumulator in self.accumulators:
                accumulator.reserve(len(self._codes))
        self._codes[first : self.used] = codes
        self._slot_of[codes] = np.arange(first, self.used, dtype=np.int32)

    def add(
        self, codes: NDArray[Any], codes_size: int, values: Sequence[Values | None], times: NDArray[np.int64]
    ) -> None:
        slots = self.slots(codes, codes_size)
        self._flags.touch(slots)
        for accumulator, column in zip(self.accumulators, values, strict=True):
            accumulator.add(slots, column, times)

    def load(self, codes: NDArray[Any], codes_size: int, parts: Sequence[Sequence[Part]], flags: int) -> None:
        """Sets keys to what was encoded; of several of one key the last counts."""
        slots = self.slots(codes, codes_size)
        last_of = np.unique(slots[::-1], return_index=True)[1]
        if len(last_of) < len(slots):
            rows = np.sort(len(slots) - 1 - last_of)
            slots, parts = slots[rows], [[taken(part, rows) for part in of_one] for of_one in parts]
        for accumulator, of_one in zip(self.accumulators, parts, strict=True):
            accumulator.decode(slots, of_one)
        self._flags.put(slots, flags)

    def changed(self, flag: int) -> Slots:
        """Slots changed since this flag was last taken; takes it."""
        return self._flags.take(flag)

    def mark(self, slots: Slots, flag: int) -> None:
        self._flags.add(slots, flag)

    def all(self) -> Slots:
        return np.arange(self.used)

    def logged(self) -> Slots:
        return self._flags.having(_LOGGED)

    def codes(self, slots: Slots) -> NDArray[np.uint32]:
        return self._codes[slots]

    def recode(self, new_of: NDArray[np.int64]) -> None:
        self._codes[: self.used] = new_of[self._codes[: self.used]]
        self._slot_of = np.full(0, -1, np.int32)
        if self.used:
            self._slot_of = grown(self._slot_of, int(self._codes[: self.used].max()) + 1, -1)
            self._slot_of[self._codes[: self.used]] = np.arange(self.used, dtype=np.int32)

    @property
    def size_bytes(self) -> int:
        own = self._slot_of.nbytes + self._codes.nbytes + self._flags.size_bytes
        return own + sum(accumulator.size_bytes for accumulator in self.accumulators)


Chosen = list[tuple[int, Window, Slots]]
"""Slots of windows, by the windows' ends."""


class WindowState:
    """All open windows of one step in one task: a `DurableState`.

    `accumulators` makes a fresh one an aggregate, for each window. `given_at_commits`: what the changelog has was given by
    `take_updates`; else what is restored counts as changed.
    """

    def __init__(
        self,
        name: str,
        grace_ms: int,
        accumulators: Callable[[], Sequence[Accumulator]],
        *,
        given_at_commits: bool = True,
    ) -> None:
        self._name = name
        self._restored = _LOGGED if given_at_commits else _LOGGED | _UNEMITTED
        self._grace_ms = grace_ms
        self._accumulators = accumulators
        self._layouts = [accumulator.layout for accumulator in accumulators()]
        self._codes = KeyCodes()
        self._windows: dict[int, Window] = {}
        self.closed_up_to: int | None = None
        """The watermark by which windows were closed; None before the first."""
        self._logged_closed: int | None = None
        self._saved_closed: int | None = None
        self._deleted: list[pa.LargeBinaryArray] = []
        self._dead_in_database: KeyRange | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def size_bytes(self) -> int:
        """What the open windows take in memory (without the key dictionary)."""
        return sum(window.size_bytes for window in self._windows.values())

    @property
    def windows_open(self) -> int:
        return len(self._windows)

    # What the operator does

    def add(
        self,
        keys: pl.Series,
        rows: NDArray[np.int64] | None,
        ends: NDArray[np.int64],
        values: Sequence[pl.Series | None],
        times: NDArray[np.int64],
    ) -> None:
        """Row `rows[i]` counts in the window that ends at `ends[i]`; rows None: each row in one, `ends[i]`.

        `keys`: key texts without nulls. `values`: a column an aggregate, as its accumulator takes it.
        """
        if not len(ends):
            return
        codes = self._codes.codes(keys)
        plain_values = [None if column is None else plain(column) for column in values]
        for end, chosen in by_end(ends):
            window = self._windows.get(end)
            if window is None:
                window = self._windows[end] = Window(self._accumulators())
            index = chosen if rows is None else rows if chosen is None else rows[chosen]
            if index is None:
                window.add(codes, self._codes.size, plain_values, times)
                continue
            columns = [None if column is None else column[index] for column in plain_values]
            window.add(codes[index], self._codes.size, columns, times[index])

    def take_updates(self) -> ResultRows | None:
        """Keys and windows changed since the last call, with their results. Closed ones: see `close`."""
        chosen = [(end, window, window.changed(_UNEMITTED)) for end, window in self._windows.items()]
        return self._rows(chosen)

    def close(self, watermark: int, *, changed_only: bool) -> ResultRows | None:
        """Frees the windows whose end and grace have passed, oldest first, and gives their results (or what changed last)."""
        if self.closed_up_to is not None and watermark <= self.closed_up_to:
            return None
        self.closed_up_to = watermark
        due = sorted(end for end in self._windows if end + self._grace_ms <= watermark)
        if not due:
            return None
        chosen = [(end, self._windows[end]) for end in due]
        rows = self._rows([(end, w, w.changed(_UNEMITTED) if changed_only else w.all()) for end, w in chosen])
        for end, window in chosen:
            self._forget(end, window)
        if self._codes.should_renew:
            self._renew_codes()
        return rows

    def _rows(self, chosen: Chosen) -> ResultRows | None:
        chosen = [entry for entry in chosen if len(entry[2])]
        if not chosen:
            return None
        results = [
            pl.concat([window.accumulators[i].result(slots) for _, window, slots in chosen])
            for i in range(len(self._layouts))
        ]
        return ResultRows(self._texts(chosen), _ends(chosen), results, _unfit(chosen))

    def _texts(self, chosen: Chosen) -> pl.Series:
        return self._codes.texts(np.concatenate([window.codes(slots) for _, window, slots in chosen]))

    def _forget(self, end: int, window: Window) -> None:
        logged = window.logged()
        if len(logged):
            self._deleted.append(self._keys([(end, window, logged)]))
        if window.in_database:
            self._dead(end, end)
        del self._windows[end]

    def _dead(self, first: int, last: int) -> None:
        """Windows that end in between are closed, and in the database. Nothing that is open lies between closed ones."""
        start, stop = int_key(first), int_key(last + 1)
        if self._dead_in_database is not None:
            start = min(start, self._dead_in_database.start)
            stop = max(stop, self._dead_in_database.stop or stop)
        self._dead_in_database = KeyRange(start, stop)

    def _renew_codes(self) -> None:
        live = np.zeros(self._codes.size, np.bool_)
        for window in self._windows.values():
            live[window.codes(window.all())] = True
        new_of = self._codes.renew(live)
        if new_of is not None:
            for window in self._windows.values():
                window.recode(new_of)

    # What the task does

    def take_changes(self) -> list[Changes]:
        changes = self._closed_change(self._logged_closed)
        self._logged_closed = self.closed_up_to
        chosen = [(end, window, window.changed(_UNLOGGED)) for end, window in self._windows.items()]
        for _, window, slots in chosen:
            window.mark(slots, _LOGGED)
        changes += self._puts(chosen)
        changes += [Changes(keys, pa.nulls(len(keys), pa.large_binary())) for keys in self._deleted]
        self._deleted = []
        return changes

    def take_checkpoint(self) -> StoreWrite:
        changes = self._closed_change(self._saved_closed)
        self._saved_closed = self.closed_up_to
        chosen = [(end, window, window.changed(_UNSAVED)) for end, window in self._windows.items()]
        for _, window, slots in chosen:
            window.in_database |= len(slots) > 0
        dead, self._dead_in_database = self._dead_in_database, None
        return StoreWrite([*changes, *self._puts(chosen)], [dead] if dead is not None else [])

    def _closed_change(self, told: int | None) -> list[Changes]:
        if self.closed_up_to is None or self.closed_up_to == told:
            return []
        return [Changes.of([CLOSED_KEY], [int_key(self.closed_up_to)])]

    def _puts(self, chosen: Chosen) -> list[Changes]:
        chosen = [entry for entry in chosen if len(entry[2])]
        if not chosen:
            return []
        encoded = [[part for a in window.accumulators for part in a.encode(slots)] for _, window, slots in chosen]
        return [Changes(self._keys(chosen), pack([joined(parts) for parts in zip(*encoded, strict=True)]))]

    def _keys(self, chosen: Chosen) -> pa.LargeBinaryArray:
        return window_keys(_ends(chosen), self._texts(chosen))

    def restore(self, stored: Iterable[Changes], tail: Iterable[Changes]) -> None:
        for changes in stored:
            self._apply(changes, self._restored, in_database=True)
        self._saved_closed = self.closed_up_to
        for changes in tail:
            self._apply(changes, self._restored | _UNSAVED, in_database=False)
        self._logged_closed = self.closed_up_to
        for end, window in list(self._windows.items()):
            if self._is_closed(end):
                if window.in_database:
                    self._dead(end, end)
                del self._windows[end]

    def _is_closed(self, end: int) -> bool:
        return self.closed_up_to is not None and end + self._grace_ms <= self.closed_up_to

    def _apply(self, changes: Changes, flags: int, *, in_database: bool) -> None:
        keys, values = changes.keys, changes.values
        for row in np.flatnonzero(lengths(keys) < WINDOW_KEY_BYTES_MIN).tolist():
            self._raise_closed(key_int(values[row].as_py()))
        is_window = lengths(keys) >= WINDOW_KEY_BYTES_MIN
        deleted = is_window & np.asarray(values.is_null())
        if deleted.any():
            # Only closing deletes, and it deletes windows whole.
            ends, _ = split_keys(keys.filter(pa.array(deleted)))
            self._raise_closed(int(ends.max()) + self._grace_ms)
        put = pa.array(is_window & ~deleted)
        self._load(*split_keys(keys.filter(put)), values.filter(put), flags, in_database=in_database)

    def _raise_closed(self, watermark: int) -> None:
        self.closed_up_to = watermark if self.closed_up_to is None else max(watermark, self.closed_up_to)

    def _load(
        self, ends: NDArray[np.int64], keys: pl.Series, values: pa.LargeBinaryArray, flags: int, *, in_database: bool
    ) -> None:
        if not len(ends):
            return
        if in_database and self._is_closed(int(ends.min())):
            self._dead(int(ends.min()), min(int(ends.max()), self._last_closed_end()))
        parts = unpack(values, tuple(kind for layout in self._layouts for kind in layout))
        codes = self._codes.codes(keys)
        for end, rows in by_end(ends):
            if self._is_closed(end):
                continue
            window = self._windows.setdefault(end, Window(self._accumulators()))
            window.in_database |= in_database
            mine = parts if rows is None else [taken(part, rows) for part in parts]
            window.load(codes if rows is None else codes[rows], self._codes.size, self._by_aggregate(mine), flags)

    def _last_closed_end(self) -> int:
        assert self.closed_up_to is not None, "asked only where something is closed"
        return self.closed_up_to - self._grace_ms

    def _by_aggregate(self, parts: Sequence[Part]) -> list[Sequence[Part]]:
        """The parts of all aggregates in a row, cut by aggregate."""
        stops = np.cumsum([len(layout) for layout in self._layouts]).tolist()
        return [parts[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


def by_end(ends: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64] | None]]:
    """The different ends, ascending, each with the positions that have it, in their order; None: all have it."""
    lowest = int(ends.min())
    if lowest == int(ends.max()):
        yield lowest, None
        return
    order = np.argsort(ends, kind="stable")
    in_order = ends[order]
    starts = np.flatnonzero(np.diff(in_order)) + 1
    firsts = in_order[np.append(0, starts)].tolist()
    yield from zip(firsts, np.split(order, starts), strict=True)


def lengths(column: pa.LargeBinaryArray) -> NDArray[np.int64]:
    """Of each value; 0 of a null."""
    return np.asarray(pc.binary_length(column).fill_null(0), np.int64)


def taken(part: Part, rows: NDArray[np.int64]) -> Part:
    return part[rows] if isinstance(part, np.ndarray) else part.take(pa.array(rows, pa.int64()))


def joined(parts: Sequence[Part]) -> Part:
    """The same part of several windows as one."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])
    return pa.concat_arrays([part for part in parts if not isinstance(part, np.ndarray)])


def _ends(chosen: Chosen) -> NDArray[np.int64]:
    return np.repeat(np.array([end for end, _, _ in chosen], np.int64), [len(slots) for _, _, slots in chosen])


def _unfit(chosen: Chosen) -> NDArray[np.bool_] | None:
    masks = [(slots, [a.unfit(slots) for a in window.accumulators]) for _, window, slots in chosen]
    if all(mask is None for _, of_one in masks for mask in of_one):
        return None
    nothing = [np.zeros(len(slots), np.bool_) for slots, _ in masks]
    return np.concatenate(
        [
            np.logical_or.reduce([zero, *(m for m in of_one if m is not None)])
            for zero, (_, of_one) in zip(nothing, masks, strict=True)
        ]
    )
