"""Which rows of two sides are in which window, for the window join: windows on a grid, and sessions.

Each kind says which rows are too late when they come, and which rows, in which windows, are given when the watermark has come
to a point; those that are in no window any more it drops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..state.row_chunks import NO_KEY, Chunk, Rows
from ..state.row_log import RowLog
from ..state.sessions import SessionRows, SessionState
from ..state.store import DurableState
from .grid import Grid
from .group_pairs import Members
from .versions import NONE, Versions

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Sides = tuple[Members, Members]
Codes = tuple[int, int] | None
"""Keys by their codes, the end exclusive; None: all."""

_Time = TypeVar("_Time", int, Ints)
_MEMBERS_MAX: Final = 1_000_000
"""Rows times windows a row worked on at once."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """What is known of rows that came. `late`: for all their windows; `deadlines`: when the last of these closed."""

    late: Flags
    in_none: Flags
    """In no window at all: `hop > size` leaves gaps."""
    deadlines: Ints
    late_windows: int
    """Rows times windows."""
    marks: Ints
    """To be kept with the rows."""


class JoinedWindows(Protocol):
    states: Sequence[DurableState]

    def open(self, watermark: int) -> int:
        """After restore: drops what was given. Gives the watermark that counts."""
        ...

    def arrive(self, keys: pl.Series, times: Ints, before: Ints) -> Arrived:
        """Keys may be null. `before`: the watermark each row is judged by."""
        ...

    def close_early(self) -> Iterator[Sides]:
        """After rows were kept: what cannot wait for the watermark."""
        ...

    def close(self, watermark: int) -> Iterator[Sides]:
        """What is given at this watermark and was not before. State has changed when the first is given."""
        ...


class GridWindows:
    """Windows are known by the ordinal of their end: how many ends of the grid are at or before it, from the epoch on.

    A row is kept with its floor, the watermark it was judged by less the grace: it is in no window that ended before.
    """

    def __init__(self, grid: Grid, grace_ms: int, rows: RowLog) -> None:
        self._grid, self._grace, self._rows = grid, grace_ms, rows
        self._phase = grid.offset_ms + grid.size_ms
        self.states: Sequence[DurableState] = (rows,)

    def _ordinal(self, time: _Time) -> _Time:
        """Of the last end at or before a time."""
        return (time - self._phase) // self._grid.hop_ms

    def open(self, watermark: int) -> int:
        watermark = self._rows.open(watermark)
        self._free(self._rows.freed(0))
        return watermark

    def arrive(self, keys: pl.Series, times: Ints, before: Ints) -> Arrived:
        floors = before - self._grace
        last = self._grid.last_ends(times)
        in_none = last <= times
        late = ~in_none & (last <= floors)
        behind = self._ordinal(np.minimum(last, floors)) - self._ordinal(times)
        late_windows = int(np.maximum(behind, 0)[~in_none].sum())
        return Arrived(late, in_none, last + self._grace, late_windows, floors)

    def close_early(self) -> Iterator[Sides]:
        return iter(())

    def close(self, watermark: int) -> Iterator[Sides]:
        after, upto = self._rows.freed(0), watermark - self._grace
        self._rows.advance(watermark, (upto, upto))
        for stop in self._stops(after, upto):
            for codes in self._rows.key_parts(stop):
                yield from self._closed(after, stop, codes)
            after = stop

    def _stops(self, after: int, upto: int) -> Iterator[int]:
        """Up to where windows are closed at once, so that the rows in them are not too many, or one window's. The last is `upto`."""
        first, last = self._ordinal(after), self._ordinal(upto)
        if first == last:
            return
        if len(parts := self._rows.time_parts(upto)) > 1:
            begins = np.array([begin for begin, _ in parts if begin is not None])
            for ordinal in np.unique(self._ordinal(begins)).tolist():
                if first < ordinal < last:
                    yield ordinal * self._grid.hop_ms + self._phase
        yield upto

    def _closed(self, after: int, upto: int, codes: Codes) -> Iterator[Sides]:
        """Windows that end behind `after`, up to `upto`, with rows of these keys."""
        spans = []
        for side in (0, 1):
            picked = self._rows.pick(side, lambda chunk: _of_keys(chunk, codes, chunk.times < upto), before=upto)
            times = picked.times
            first = self._ordinal(np.maximum(np.maximum(times, picked.marks), after))
            last = np.minimum(self._ordinal(self._grid.last_ends(times)), self._ordinal(upto))
            spans.append(_Spans(self._rows.held(picked), np.arange(len(times)), picked.codes, first, last).living())
        self._free(upto, codes)
        return self._some(spans[0], spans[1])

    def _free(self, upto: int, codes: Codes = None) -> None:
        for side in (0, 1):
            gone = self._rows.pick(
                side,
                lambda chunk: _of_keys(chunk, codes, self._grid.last_ends(chunk.times) <= upto),
                before=upto,
            )
            self._rows.drop(side, gone, told=False)

    def _some(self, left: _Spans, right: _Spans) -> Iterator[Sides]:
        """Windows in their order, cut in halves until what is in them is little enough, or one window."""
        if not len(left.rows) and not len(right.rows):
            return
        first = min(int(side.first.min()) for side in (left, right) if len(side.rows))
        last = max(int(side.last.max()) for side in (left, right) if len(side.rows))
        if left.size + right.size > _MEMBERS_MAX and last - first > 1:
            middle = (first + last) // 2
            yield from self._some(left.upto(middle), right.upto(middle))
            yield from self._some(left.after(middle), right.after(middle))
            return
        yield self._members(left, right, first, last)

    def _members(self, left: _Spans, right: _Spans, first: int, last: int) -> Sides:
        which, ordinals = zip(left.exploded(), right.exploded(), strict=True)
        ranks = [one - first for one in ordinals]
        if (last - first + 1) * self._rows.codes_size >= 1 << 62:
            known = np.unique(np.concatenate(ordinals))
            ranks = [known.searchsorted(one) for one in ordinals]
        made = [self._side(*one) for one in zip((left, right), which, ordinals, ranks, strict=True)]
        return made[0], made[1]

    def _side(self, spans: _Spans, which: Ints, ordinals: Ints, ranks: Ints) -> Members:
        codes = spans.codes[which]
        groups = np.where(codes == NO_KEY, NO_KEY, ranks * self._rows.codes_size + codes)
        ends = ordinals * self._grid.hop_ms + self._phase
        return Members(spans.source, spans.rows[which], groups, ends - self._grid.size_ms, ends)


@dataclass(frozen=True, slots=True)
class _Spans:
    """Row `rows[i]` of the source is in the windows of ordinals `first[i] + 1 .. last[i]`."""

    source: Rows
    rows: Ints
    codes: Ints
    first: Ints
    last: Ints

    @property
    def size(self) -> int:
        return int((self.last - self.first).sum())

    def living(self) -> _Spans:
        there = self.last > self.first
        if there.all():
            return self
        return _Spans(self.source, *(column[there] for column in (self.rows, self.codes, self.first, self.last)))

    def upto(self, ordinal: int) -> _Spans:
        return _Spans(self.source, self.rows, self.codes, self.first, np.minimum(self.last, ordinal)).living()

    def after(self, ordinal: int) -> _Spans:
        return _Spans(self.source, self.rows, self.codes, np.maximum(self.first, ordinal), self.last).living()

    def exploded(self) -> tuple[Ints, Ints]:
        """A number of a span and an ordinal for each row and window."""
        many = self.last - self.first
        stops = np.cumsum(many)
        which = np.repeat(np.arange(len(many)), many)
        return which, np.arange(len(which)) + np.repeat(self.first + 1 - (stops - many), many)


class SessionWindows:
    """Sessions over both sides together: `SessionState` keeps which are open, without anything gathered in them.

    A row is given with the session whose first and last time it lies between. (With rows beyond grace two sessions of a key
    can overlap; then the one that closes first takes the rows.) A row with a null key is a session of its own.
    """

    def __init__(self, gap_ms: int, grace_ms: int, rows: RowLog) -> None:
        self._gap, self._grace, self._rows = gap_ms, grace_ms, rows
        self._sessions = SessionState("sessions", gap_ms, grace_ms, (), updates=False)
        self.states: Sequence[DurableState] = (rows, self._sessions)
        self._has_null_keys = False

    def open(self, watermark: int) -> int:
        closed = self._sessions.closed_up_to
        watermark = max(self._rows.open(watermark), watermark if closed is None else closed)
        for side in (0, 1):
            alone = self._rows.pick(side, lambda chunk: chunk.codes == NO_KEY)
            self._has_null_keys |= len(alone) > 0
            self._rows.drop(side, alone.where(alone.times + self._gap <= self._rows.freed(side)), told=False)
        return watermark

    def arrive(self, keys: pl.Series, times: Ints, before: Ints) -> Arrived:
        deadlines = times + self._gap + self._grace
        keyed = keys.is_not_null().to_numpy()
        late = before >= deadlines
        if keyed.all():
            found = self._sessions.add(keys, times, before, ())
            late = np.zeros(len(times), np.bool_) if found is None else found
        else:
            self._has_null_keys = True
            found = self._sessions.add(keys.drop_nulls(), times[keyed], before[keyed], ())
            late[keyed] = False if found is None else found
        nothing = np.zeros(len(times), np.bool_)
        return Arrived(late, nothing, deadlines, int(late.sum()), np.zeros(len(times), np.int64))

    def close_early(self) -> Iterator[Sides]:
        found = self._sessions.close_early(changed_only=False)
        return iter(()) if found is None else self._taken(found)

    def close(self, watermark: int) -> Iterator[Sides]:
        upto = watermark - self._grace
        self._rows.advance(watermark, (upto, upto))
        found = self._sessions.close(watermark, changed_only=False)
        if found is not None:
            yield from self._taken(found)
        if self._has_null_keys:
            for _, before in self._rows.time_parts(upto - self._gap + 1):
                yield self._alone(0, before), self._alone(1, before)

    def _alone(self, side: int, before: int) -> Members:
        """Rows of null keys up to a time: their sessions have closed."""
        picked = self._rows.pick(side, lambda chunk: (chunk.codes == NO_KEY) & (chunk.times < before), before=before)
        times = picked.times
        members = Members(self._rows.held(picked), np.arange(len(times)), picked.codes, times, times + self._gap)
        self._rows.drop(side, picked, told=False)
        return members

    def _taken(self, closed: SessionRows) -> Iterator[Sides]:
        """Of sessions that closed the rows of both sides, some keys at a time."""
        codes, last = self._rows.code_of(closed.rows.keys), closed.rows.ends - self._gap
        for part in self._rows.key_parts(int(last.max()) + 1):
            some = slice(None) if part is None else (codes >= part[0]) & (codes < part[1])
            sessions = _Sessions.of(codes[some], closed.starts[some], last[some])
            if len(sessions.last):
                yield self._taken_of(0, sessions), self._taken_of(1, sessions)

    def _taken_of(self, side: int, sessions: _Sessions) -> Members:
        """The rows of one side in sessions that closed."""
        known = sessions.known
        touched = self._rows.mask(known.codes)
        after, before = int(known.times.min()), int(sessions.last.max()) + 1
        picked = self._rows.pick(side, lambda chunk: touched[chunk.codes], after=after, before=before)
        at = _within(known, sessions.last[known.rows], picked.codes, picked.times)
        inside = at >= 0
        at, picked = at[inside], picked.where(inside)
        starts, ends = known.times[at], sessions.last[known.rows][at] + self._gap
        members = Members(self._rows.held(picked), np.arange(len(at)), known.rows[at], starts, ends)
        self._rows.drop(side, picked, told=True)
        return members


@dataclass(frozen=True, slots=True)
class _Sessions:
    """Sessions that closed, by key and first time; `last`: the last time of each, in the order they were given in."""

    known: Versions
    last: Ints

    @classmethod
    def of(cls, codes: Ints, starts: Ints, last: Ints) -> _Sessions:
        return cls(Versions(codes, starts, np.zeros(len(codes), np.bool_)), last)


def _within(sessions: Versions, last: Ints, codes: Ints, times: Ints) -> Ints:
    """The session each row lies in, NONE where in none. Where sessions overlap those that begin before are tried too."""
    at = sessions.at_or_before(codes, times)
    outside = (at >= 0) & (times > np.append(last, 0)[at])
    same = sessions.codes[1:] == sessions.codes[:-1]
    overlapping = bool((same & (sessions.times[1:] <= last[:-1])).any())
    while overlapping and outside.any():
        before = at[outside] - 1
        before[sessions.codes[before] != codes[outside]] = NONE
        at[outside] = before
        outside = (at >= 0) & (times > np.append(last, 0)[at])
    at[outside] = NONE
    return at


def _of_keys(chunk: Chunk, codes: Codes, flags: Flags) -> Flags:
    """Those of the rows whose keys are in the range."""
    return flags if codes is None else flags & (chunk.codes >= codes[0]) & (chunk.codes < codes[1])
