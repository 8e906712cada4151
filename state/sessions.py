"""Session windows by key: open ones in memory by slot, told to the changelog at commits and to the database at checkpoints.

    bytes: key = first time (8 bytes, order-preserving) + key text; value = last time and packed accumulators
           key = b"\\x00closed"; value = the watermark up to which sessions are closed

A session is known by its key and its first time, as it is downstream (`window_start`). It keeps its slot while it grows; when
a row comes before its start, or two sessions become one, the old name is taken back: a deletion in the changelog and the
database, and where results are given as updates a tombstone. What was never told under a name is never taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from .key_codes import KeyCodes
from .keys import int_key, key_int
from .session_clusters import Clusters, Ints, Spans, clustered, one_by_one
from .session_slots import SessionSlots
from .slots import Accumulator, ResultRows, Slots, Values, distinct, pack, plain, unpack
from .store import Changes, StoreWrite
from .window_keys import CLOSED_KEY, binary_array, split_keys, window_keys

_UNEMITTED: Final = 1
_UNLOGGED: Final = 2
_UNSAVED: Final = 4
_GIVEN: Final = 8
_LOGGED: Final = 16
_SAVED: Final = 32
"""Changed since it was given, logged, saved; known under its name downstream, in the changelog, in the database."""

_CHANGED: Final = _UNEMITTED | _UNLOGGED | _UNSAVED
_KNOWN: Final = _GIVEN | _LOGGED | _SAVED


@dataclass(frozen=True, slots=True)
class SessionRows:
    """Sessions as columns: `rows.ends` are their ends (exclusive), `starts` their first times."""

    starts: Ints
    rows: ResultRows


@dataclass(frozen=True, slots=True)
class Gone:
    """Names that are no more: key texts, first times, ends (exclusive)."""

    keys: pl.Series
    starts: Ints
    ends: Ints

    def taken(self, rows: NDArray[np.bool_]) -> Gone:
        return Gone(self.keys.filter(pl.Series(rows)), self.starts[rows], self.ends[rows])


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows to add. `kept`: which of them; None: all."""

    kept: Ints | None
    times: Ints
    values: Sequence[pl.Series | None]


class SessionState:
    """All open sessions of one step in one task: a `DurableState`.

    `updates`: results are given while sessions are open (`take_updates`), so names can have to be taken back.
    `given_at_commits`: what the changelog has was given; else what is restored counts as changed (and perhaps as given).
    """

    def __init__(
        self,
        name: str,
        gap_ms: int,
        grace_ms: int,
        accumulators: Sequence[Accumulator],
        *,
        updates: bool,
        given_at_commits: bool = True,
    ) -> None:
        self._name, self._gap, self._grace = name, gap_ms, grace_ms
        self._restored = _LOGGED | (_GIVEN if updates else 0) | (0 if given_at_commits else _UNEMITTED)
        self._codes = KeyCodes()
        self._slots = SessionSlots(gap_ms + grace_ms, accumulators, _CHANGED)
        self._layout = (np.dtype(np.int64), *(kind for a in self._slots.accumulators for kind in a.layout))
        self._crowded: set[int] = set()
        """Codes of keys with sessions less than a gap apart (see `one_by_one`)."""
        self.closed_up_to: int | None = None
        self._logged_closed: int | None = None
        self._saved_closed: int | None = None
        self._closed_early: list[Slots] = []
        self._gone: dict[int, list[Gone]] = {_GIVEN: [], _LOGGED: [], _SAVED: []}

    @property
    def name(self) -> str:
        return self._name

    @property
    def size_bytes(self) -> int:
        return self._slots.size_bytes

    @property
    def sessions_open(self) -> int:
        return len(self._slots)

    # What the operator does

    def add(
        self, keys: pl.Series, times: Ints, before: Ints, values: Sequence[pl.Series | None]
    ) -> NDArray[np.bool_] | None:
        """Rows in order of arrival; `before`: the watermark each is judged by. Gives which are late; None: none is."""
        if not len(keys):
            return None
        codes = self._codes.codes(keys).astype(np.int64)
        touched = distinct(codes, self._codes.size)
        old = self._slots.of_keys(touched, self._codes.size)
        rows = Spans(codes, times, times)
        late: NDArray[np.bool_] | None = None
        closed = np.zeros(0, np.bool_)
        if not self._crowded and not (times < before - self._grace).any():
            found = clustered(self._slots.spans(old).and_then(rows), self._gap)
        else:
            found, closed = self._careful(old, rows, before, touched)
            late = found.of[len(old) :] < 0
        kept = None if late is None or not late.any() else np.flatnonzero(~late)
        self._apply(touched, old, found, closed, _Rows(kept, times, values))
        return late if kept is not None else None

    def _careful(self, old: Slots, rows: Spans, before: Ints, touched: Ints) -> tuple[Clusters, NDArray[np.bool_]]:
        """Some row is behind its watermark. Keys of rows that may or may not be late go one by one.

        If even the largest session a row could be part of is closed for it, it is late for sure.
        """
        spans = self._slots.spans(old)
        largest = clustered(spans.and_then(rows), self._gap)
        ends = largest.spans.last[largest.of[len(old) :]] + self._gap
        sure = ends + self._grace <= before
        doubtful = np.zeros(self._codes.size, np.bool_)
        doubtful[rows.code[(rows.first < before - self._grace) & ~sure]] = True
        doubtful[[code for code in self._crowded if code < len(doubtful)]] = True
        slow_old, slow_rows = doubtful[spans.code], doubtful[rows.code] & ~sure
        fast_rows = ~doubtful[rows.code] & ~sure
        slow = one_by_one(spans.taken(slow_old), rows.taken(slow_rows), before[slow_rows], self._gap, self._grace)
        fast = clustered(spans.taken(~slow_old).and_then(rows.taken(fast_rows)), self._gap)
        self._crowded.difference_update(touched.tolist())
        self._crowded.update(slow.crowded)
        of = np.full(len(old) + len(rows), -1, np.int64)
        of[np.concatenate([~slow_old, fast_rows])] = fast.of
        slow_of = slow.clusters.of
        of[np.concatenate([slow_old, slow_rows])] = np.where(slow_of < 0, -1, slow_of + len(fast.spans))
        closed = np.concatenate([np.zeros(len(fast.spans), np.bool_), slow.closed])
        return Clusters(fast.spans.and_then(slow.clusters.spans), of), closed

    def _apply(
        self,
        touched: Ints,
        old: Slots,
        found: Clusters,
        closed: NDArray[np.bool_],
        rows: _Rows,
    ) -> None:
        """Old sessions keep their slots, the others of a cluster are merged into one of them, then the rows are added."""
        into, of_rows = found.of[: len(old)], found.of[len(old) :]
        of_rows = of_rows if rows.kept is None else of_rows[rows.kept]
        target, extra = self._targets(old, into, len(found.spans))
        changed = np.zeros(len(target), np.bool_)
        changed[of_rows] = True
        changed[into[extra]] = True
        fresh = target < 0
        renamed = ~fresh
        renamed[renamed] = self._slots.first[target[renamed]] != found.spans.first[renamed]
        self._take_back(np.concatenate([target[renamed], old[extra]]))
        target[fresh] = self._slots.taken(int(fresh.sum()))
        self._merge(target[into[extra]], old[extra])
        self._slots.put(target[changed], found.spans.taken(changed))
        self._slots.flags.add(target[changed], _CHANGED)
        self._add_rows(target[of_rows], rows)
        self._slots.link(touched, target)
        if closed.any():
            self._closed_early.append(target[closed])

    def _targets(self, old: Slots, into: Ints, size: int) -> tuple[Ints, NDArray[np.bool_]]:
        """The slot of each cluster (-1: a new one), and which old sessions are merged into another's slot."""
        target = np.full(size, -1, np.int64)
        target[into] = old  # of several any one may win
        return target, target[into] != old

    def _take_back(self, slots: Slots) -> None:
        """These sessions lose their names."""
        known = slots[(self._slots.flags.of(slots) & _KNOWN) > 0]
        if len(known):
            self._remember(known, _KNOWN)
            self._slots.flags.remove(known, _KNOWN)

    def _remember(self, slots: Slots, flags: int) -> None:
        spans = self._slots.spans(slots)
        gone = Gone(self._codes.texts(spans.code), spans.first, spans.last + self._gap)
        known = self._slots.flags.of(slots) & flags
        for flag, pending in self._gone.items():
            there = (known & flag) > 0
            if there.any():
                pending.append(gone.taken(there))

    def _merge(self, into: Slots, source: Slots) -> None:
        if len(source):
            for accumulator in self._slots.accumulators:
                accumulator.merge(into, source)
            self._slots.release(source)

    def _add_rows(self, slots: Slots, rows: _Rows) -> None:
        columns: list[Values | None] = [None if column is None else plain(column) for column in rows.values]
        times = rows.times
        if rows.kept is not None:
            columns = [None if column is None else column[rows.kept] for column in columns]
            times = times[rows.kept]
        for accumulator, column in zip(self._slots.accumulators, columns, strict=True):
            accumulator.add(slots, column, times)

    def close(self, watermark: int, *, changed_only: bool) -> SessionRows | None:
        """Frees the sessions whose end and grace have passed, and gives them (or those not given as they are)."""
        if self.closed_up_to is not None and watermark <= self.closed_up_to:
            return None
        self.closed_up_to = watermark
        rows = self._close(self._slots.due(watermark), changed_only=changed_only)
        if self._codes.should_renew:
            self._renew_codes()
        return rows

    def close_early(self, *, changed_only: bool) -> SessionRows | None:
        """After `add`: the same for sessions beside which one of the same start has come to be."""
        early, self._closed_early = self._closed_early, []
        return self._close(np.concatenate([np.zeros(0, np.int64), *early]), changed_only=changed_only)

    def _close(self, due: Slots, *, changed_only: bool) -> SessionRows | None:
        if not len(due):
            return None
        given = due[(self._slots.flags.of(due) & _UNEMITTED) > 0] if changed_only else due
        rows = self._rows(given[np.argsort(self._slots.last[given], kind="stable")])
        self._remember(due, _LOGGED | _SAVED)
        codes = distinct(self._slots.code[due], self._codes.size)
        self._slots.live[due] = False
        self._slots.unlink(codes, self._codes.size)
        self._slots.release(due)
        if self._crowded:
            crowded = np.array(sorted(self._crowded), np.int64)
            self._crowded = self._crowded_among(self._slots.of_keys(crowded, self._codes.size))
        return rows

    def take_updates(self) -> tuple[SessionRows | None, Gone | None]:
        """Sessions changed since the last call, and names taken back since; no name is in both."""
        slots = self._slots.flags.take(_UNEMITTED)
        self._slots.flags.add(slots, _GIVEN)
        rows = self._rows(slots)
        return rows, self._joined_gone(_GIVEN)

    def take_gone(self) -> Gone | None:
        """Names taken back since the last call, alone. One may have come again: it is given with the next updates."""
        return self._joined_gone(_GIVEN)

    def _rows(self, slots: Slots) -> SessionRows | None:
        if not len(slots):
            return None
        spans = self._slots.spans(slots)
        results = [accumulator.result(slots) for accumulator in self._slots.accumulators]
        masks = [mask for a in self._slots.accumulators if (mask := a.unfit(slots)) is not None]
        keys = self._codes.texts(spans.code)
        self._given_again(keys, spans.first)
        unfit = np.logical_or.reduce(masks) if masks else None
        return SessionRows(spans.first, ResultRows(keys, spans.last + self._gap, results, unfit))

    def _given_again(self, keys: pl.Series, starts: Ints) -> None:
        """A name that is given is not taken back, though one before it of the same name was."""
        gone = self._joined_gone(_GIVEN)
        if gone is not None:
            maybe = np.isin(starts, gone.starts)
            given = set(zip(keys.filter(pl.Series(maybe)).to_list(), starts[maybe].tolist(), strict=True))
            again = [name in given for name in zip(gone.keys.to_list(), gone.starts.tolist(), strict=True)]
            self._gone[_GIVEN] = [gone.taken(~np.array(again))] if not all(again) else []

    def _joined_gone(self, flag: int) -> Gone | None:
        pending, self._gone[flag] = self._gone[flag], []
        if not pending:
            return None
        starts, ends = (np.concatenate([getattr(gone, name) for gone in pending]) for name in ("starts", "ends"))
        return Gone(pl.concat([gone.keys for gone in pending]), starts, ends)

    def _renew_codes(self) -> None:
        live = np.zeros(self._codes.size, np.bool_)
        live[self._slots.code[self._slots.all()]] = True
        new_of = self._codes.renew(live)
        if new_of is not None:
            self._slots.recode(new_of, self._codes.size)
            self._crowded = {int(new_of[code]) for code in self._crowded if new_of[code] >= 0}

    # What the task does

    def take_changes(self) -> list[Changes]:
        closed = self._closed_change(self._logged_closed)
        self._logged_closed = self.closed_up_to
        return closed + self._changes(_UNLOGGED, _LOGGED)

    def take_checkpoint(self) -> StoreWrite:
        closed = self._closed_change(self._saved_closed)
        self._saved_closed = self.closed_up_to
        return StoreWrite(closed + self._changes(_UNSAVED, _SAVED))

    def _changes(self, changed: int, known: int) -> list[Changes]:
        """Deletions first: a name that went may have come again."""
        changes = []
        gone = self._joined_gone(known)
        if gone is not None:
            keys = window_keys(gone.starts, gone.keys)
            changes.append(Changes(keys, pa.nulls(len(keys), pa.large_binary())))
        slots = self._slots.flags.take(changed)
        if len(slots):
            self._slots.flags.add(slots, known)
            spans = self._slots.spans(slots)
            parts = [spans.last, *(part for a in self._slots.accumulators for part in a.encode(slots))]
            changes.append(Changes(window_keys(spans.first, self._codes.texts(spans.code)), pack(parts)))
        return changes

    def _closed_change(self, told: int | None) -> list[Changes]:
        if self.closed_up_to is None or self.closed_up_to == told:
            return []
        return [Changes.of([CLOSED_KEY], [int_key(self.closed_up_to)])]

    def restore(self, stored: Iterable[Changes], tail: Iterable[Changes]) -> None:
        saved, logged = _frame(stored), _frame(tail)
        self._saved_closed = self._take_closed(saved)
        told = [closed for closed in (self._saved_closed, self._take_closed(logged)) if closed is not None]
        self.closed_up_to = self._logged_closed = max(told, default=None)
        saved, logged = (frame.filter(pl.col("key") != CLOSED_KEY) for frame in (saved, logged))
        in_database = logged["key"].is_in(saved["key"].implode())
        dead = logged.filter(in_database & logged["value"].is_null())["key"]
        if len(dead):
            starts, keys = split_keys(binary_array(dead))
            self._gone[_SAVED].append(Gone(keys, starts, starts))
        known = self._restored
        self._load(saved.join(logged, on="key", how="anti"), known | _SAVED)
        self._load(logged.filter(in_database & logged["value"].is_not_null()), known | _SAVED | _UNSAVED)
        self._load(logged.filter(~in_database & logged["value"].is_not_null()), known | _UNSAVED)
        self._link_all()

    def _take_closed(self, frame: pl.DataFrame) -> int | None:
        found = frame.filter(pl.col("key") == CLOSED_KEY)["value"].to_list()
        return key_int(found[0]) if found else None

    def _load(self, frame: pl.DataFrame, flags: int) -> None:
        if not len(frame):
            return
        starts, keys = split_keys(binary_array(frame["key"]))
        last, *parts = unpack(binary_array(frame["value"]), self._layout)
        slots = self._slots.taken(len(starts))
        codes = self._codes.codes(keys).astype(np.int64)
        self._slots.put(slots, Spans(codes, starts, np.asarray(last)))
        self._slots.flags.put(slots, flags)
        for accumulator in self._slots.accumulators:
            mine, parts = parts[: len(accumulator.layout)], parts[len(accumulator.layout) :]
            accumulator.decode(slots, mine)

    def _link_all(self) -> None:
        """Chains and crowded keys, from the columns."""
        slots = self._slots.all()
        codes = np.unique(self._slots.code[slots])
        self._slots.of_keys(codes, self._codes.size)
        self._slots.link(codes, slots)
        self._crowded = self._crowded_among(slots)

    def _crowded_among(self, slots: Slots) -> set[int]:
        joint = clustered(self._slots.spans(slots), self._gap)
        sizes = np.bincount(joint.of, minlength=len(joint.spans)) if len(slots) else np.zeros(0, np.int64)
        return set(joint.spans.code[sizes > 1].tolist())


def _frame(changes: Iterable[Changes]) -> pl.DataFrame:
    """The last value of each key, as columns `key` and `value`."""
    frames = [_one_frame(one) for one in changes]
    if not frames:
        return pl.DataFrame(schema={"key": pl.Binary, "value": pl.Binary})
    return pl.concat(frames).unique("key", keep="last", maintain_order=True)


def _one_frame(changes: Changes) -> pl.DataFrame:
    columns = {"key": changes.keys, "value": changes.values}
    return pl.DataFrame({name: pl.Series(column, dtype=pl.Binary) for name, column in columns.items()})
