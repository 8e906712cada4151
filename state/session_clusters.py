"""Which rows and open sessions become one session. Pure functions on columns.

Two neighbours of one key share a session iff `later - earlier < gap`. The fast way sorts sessions and rows together and
takes one running maximum; it is right where no row is behind its watermark. `one_by_one` is the rule itself, for the keys
where the order of arrival matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_TIME_BITS: Final = 38  # 8.7 years in ms
_CODES_MAX: Final = 1 << (62 - _TIME_BITS)


@dataclass(frozen=True, slots=True)
class Spans:
    """Sessions, or rows as sessions of one row: from `first` to `last`, both inclusive."""

    code: Ints
    first: Ints
    last: Ints

    def __len__(self) -> int:
        return len(self.code)

    def taken(self, rows: NDArray[np.bool_]) -> Spans:
        return Spans(self.code[rows], self.first[rows], self.last[rows])

    def and_then(self, other: Spans) -> Spans:
        columns = zip((self.code, self.first, self.last), (other.code, other.first, other.last), strict=True)
        return Spans(*(np.concatenate(pair) for pair in columns))


@dataclass(frozen=True, slots=True)
class Clusters:
    """`spans`: the sessions that come out. `of[i]`: the number of the one that span i went into, or -1 (a late row)."""

    spans: Spans
    of: Ints


def clustered(spans: Spans, gap: int) -> Clusters:
    """All spans joined to those of their key less than `gap` away; ordered by (code, first)."""
    if not len(spans):
        return Clusters(spans, np.zeros(0, np.int64))
    order, code, first, top = _ordered(spans)
    starts = np.flatnonzero(np.concatenate([[True], (code[1:] != code[:-1]) | (first[1:] - top[:-1] >= gap)]))
    of = np.empty(len(spans), np.int64)
    of[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(spans))))
    last = top[np.append(starts[1:], len(spans)) - 1]
    return Clusters(Spans(code[starts], first[starts], last), of)


def _ordered(spans: Spans) -> tuple[Ints, Ints, Ints, Ints]:
    """Order by (code, first); code and first in it; the largest `last` of the key so far."""
    base = int(spans.first.min())
    if int(spans.last.max()) - base < 1 << _TIME_BITS and int(spans.code.max()) < _CODES_MAX:
        packed = (spans.code << _TIME_BITS) + (spans.first - base)
        order = np.argsort(packed, kind="stable")
        code, first = spans.code[order], spans.first[order]
        top = np.maximum.accumulate((code << _TIME_BITS) + (spans.last[order] - base))
        return order, code, first, top - (code << _TIME_BITS) + base
    order = np.lexsort((spans.first, spans.code))
    code, first = spans.code[order], spans.first[order]
    known, rank = np.unique(spans.last[order], return_inverse=True)
    key_number = np.cumsum(np.concatenate([[0], code[1:] != code[:-1]]))
    top_rank = np.maximum.accumulate(key_number * len(known) + rank) - key_number * len(known)
    return order, code, first, known[top_rank]


@dataclass(slots=True)
class _Session:
    first: int
    last: int
    members: list[int] = field(default_factory=list)
    """Numbers of the spans that went into it."""
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Sorted:
    """What `one_by_one` found. `closed`: sessions to close at once; `crowded`: codes with sessions less than gap apart."""

    clusters: Clusters
    closed: NDArray[np.bool_]
    crowded: Sequence[int]


def one_by_one(old: Spans, rows: Spans, before: Ints, gap: int, grace: int) -> Sorted:
    """The rows in order of arrival into the open sessions, each judged by its watermark `before`.

    A session whose end and grace a row's watermark has passed is closed for that row, and stays open for the rows of slower
    partitions; so two sessions of a key can be less than a gap apart for a while. It is closed at once where a session with
    the same start would come to be beside it.
    """
    by_code: dict[int, list[_Session]] = {}
    for number, (code, first, last) in enumerate(zip(*_lists(old), strict=True)):
        by_code.setdefault(code, []).append(_Session(first, last, [number]))
    done: list[tuple[int, _Session]] = []
    for number, (code, time, mark) in enumerate(
        zip(rows.code.tolist(), rows.first.tolist(), before.tolist(), strict=True), len(old)
    ):
        sessions = by_code.setdefault(code, [])
        near = [s for s in sessions if time - s.last < gap and s.first - time < gap and mark < s.last + gap + grace]
        first = min([time, *(s.first for s in near)])
        last = max([time, *(s.last for s in near)])
        if mark >= last + gap + grace:
            continue
        rest = [s for s in sessions if s not in near]
        done += [(code, s) for s in rest if s.first == first]
        members = [member for s in near for member in s.members]
        by_code[code] = [s for s in rest if s.first != first] + [_Session(first, last, [*members, number])]
    for _, session in done:
        session.closed = True
    found = [(code, s) for code, sessions in by_code.items() for s in sessions] + done
    return Sorted(_numbered(found, len(old) + len(rows)), _flags(found), _crowded(by_code, gap))


def _lists(spans: Spans) -> tuple[list[int], list[int], list[int]]:
    return spans.code.tolist(), spans.first.tolist(), spans.last.tolist()


def _numbered(found: list[tuple[int, _Session]], size: int) -> Clusters:
    of = np.full(size, -1, np.int64)
    for number, (_, session) in enumerate(found):
        of[session.members] = number
    code = np.array([code for code, _ in found], np.int64)
    first, last = ([getattr(s, name) for _, s in found] for name in ("first", "last"))
    return Clusters(Spans(code, np.array(first, np.int64), np.array(last, np.int64)), of)


def _flags(found: list[tuple[int, _Session]]) -> NDArray[np.bool_]:
    return np.array([session.closed for _, session in found], np.bool_)


def _crowded(by_code: dict[int, list[_Session]], gap: int) -> list[int]:
    found = []
    for code, sessions in by_code.items():
        in_order = sorted(sessions, key=lambda session: session.first)
        if any(b.first - a.last < gap for a, b in pairwise(in_order)):
            found.append(code)
    return found
