"""Open sessions as slot-addressed columns, chained by key: `head[code]` -> slot -> `next[slot]` ... -> -1.

Almost every key has one open session, so walking the chains of a batch's keys is one or two gathers. A wheel of time buckets
says which sessions are due, so that closing does not look at all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .session_clusters import Ints, Spans
from .slot_flags import SlotFlags
from .slots import Accumulator, Slots, different, grown

_BUCKETS_A_SPAN: Final = 16
_BUCKET_MS_MIN: Final = 1_000  # sessions of one second are looked through together: cheaper than many small buckets
_NO_BUCKET: Final = np.iinfo(np.int64).min


class SessionSlots:
    """Columns `code`, `first`, `last`, `flags` and the accumulators, by slot; slots are reused."""

    def __init__(self, closes_after_ms: int, accumulators: Sequence[Accumulator], changed: int) -> None:
        self.accumulators = accumulators
        self.used = 0
        self.code = np.zeros(0, np.int64)
        self.first = np.zeros(0, np.int64)
        self.last = np.zeros(0, np.int64)
        self.flags = SlotFlags(changed)
        self.live = np.zeros(0, np.bool_)
        self._next = np.full(0, -1, np.int64)
        self._bucket = np.zeros(0, np.int64)
        self._head = np.full(0, -1, np.int64)
        self._free: list[Slots] = []
        """A stack of what was let go together."""
        self._closes_after_ms = closes_after_ms
        self._bucket_ms = max(_BUCKET_MS_MIN, closes_after_ms // _BUCKETS_A_SPAN)
        self._wheel: dict[int, list[Slots]] = {}

    def __len__(self) -> int:
        return self.used - sum(map(len, self._free))

    @property
    def size_bytes(self) -> int:
        columns: list[NDArray[Any]] = [
            self.code,
            self.first,
            self.last,
            self.live,
            self._next,
            self._bucket,
        ]
        own = sum(column.nbytes for column in [*columns, self._head, *self._free])
        return own + self.flags.size_bytes + sum(accumulator.size_bytes for accumulator in self.accumulators)

    def all(self) -> Slots:
        return np.flatnonzero(self.live[: self.used])

    def spans(self, slots: Slots) -> Spans:
        return Spans(self.code[slots], self.first[slots], self.last[slots])

    def of_keys(self, codes: Ints, codes_size: int) -> Slots:
        """The sessions of these keys, each key once."""
        self._head = grown(self._head, codes_size, -1)
        found, at = [], self._head[codes]
        while len(at := at[at >= 0]):
            found.append(at)
            at = self._next[at]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def taken(self, count: int) -> Slots:
        """Slots for new sessions, with empty accumulators and no flags."""
        again, wanted = [], count
        while wanted and self._free:
            last = self._free.pop()
            again.append(last[:wanted])
            if len(last) > wanted:
                self._free.append(last[wanted:])
            wanted -= len(again[-1])
        first, self.used = self.used, self.used + wanted
        if self.used > len(self.code):
            self._grow()
        return np.concatenate([*again, np.arange(first, self.used)])

    def _grow(self) -> None:
        for name in ("code", "first", "last", "live"):
            setattr(self, name, grown(getattr(self, name), self.used, 0))
        self.flags.reserve(self.used)
        self._next = grown(self._next, self.used, -1)
        self._bucket = grown(self._bucket, self.used, _NO_BUCKET)
        for accumulator in self.accumulators:
            accumulator.reserve(len(self.code))

    def put(self, slots: Slots, spans: Spans) -> None:
        """These are the sessions of these slots."""
        self.code[slots], self.first[slots], self.last[slots] = spans.code, spans.first, spans.last
        self.live[slots] = True
        buckets = (spans.last + self._closes_after_ms) // self._bucket_ms
        moved = self._bucket[slots] != buckets
        self._bucket[slots] = buckets
        self._into_wheel(slots[moved], buckets[moved])

    def _into_wheel(self, slots: Slots, buckets: Ints) -> None:
        if not len(slots):
            return
        order = np.argsort(buckets, kind="stable")
        in_order = buckets[order]
        starts = np.flatnonzero(np.diff(in_order)) + 1
        for bucket, part in zip(in_order[np.append(0, starts)].tolist(), np.split(slots[order], starts), strict=True):
            self._wheel.setdefault(bucket, []).append(part)

    def release(self, slots: Slots) -> None:
        """These sessions are no more. Chains are mended by `link` or `unlink`."""
        self.live[slots] = False
        self.flags.put(slots, 0)
        self._bucket[slots] = _NO_BUCKET
        for accumulator in self.accumulators:
            accumulator.clear(slots)
        if len(slots):
            self._free.append(slots)

    def link(self, codes: Ints, slots: Slots) -> None:
        """These keys have these sessions and no others."""
        self._head[codes] = -1
        if not len(slots):
            return
        code = self.code[slots]
        if (np.diff(code) < 0).any():
            order = np.argsort(code, kind="stable")
            code, slots = code[order], slots[order]
        begins = np.concatenate([[True], code[1:] != code[:-1]])
        self._head[code[begins]] = slots[begins]
        self._next[slots] = np.where(np.append(begins[1:], True), -1, np.append(slots[1:], -1))

    def unlink(self, codes: Ints, codes_size: int) -> None:
        """Takes those that are no more out of the chains of these keys. Before their slots are used again."""
        found = self.of_keys(codes, codes_size)
        self.link(codes, found[self.live[found]])

    def due(self, watermark: int) -> Slots:
        """Sessions whose end and grace have passed; each is given once, so close them."""
        buckets = [bucket for bucket in self._wheel if bucket * self._bucket_ms <= watermark]
        if not buckets:
            return np.zeros(0, np.int64)
        parts = [(bucket, part) for bucket in buckets for part in self._wheel.pop(bucket)]
        slots = np.concatenate([part for _, part in parts])
        registered = np.repeat(np.array([bucket for bucket, _ in parts]), [len(part) for _, part in parts])
        slots = slots[self.live[slots] & (self._bucket[slots] == registered)]
        done = self.last[slots] + self._closes_after_ms <= watermark
        self._into_wheel(slots[~done], self._bucket[slots[~done]])
        return different(np.sort(slots[done]))  # a slot that was used again can be registered twice

    def recode(self, new_of: Ints, codes_size: int) -> None:
        """The key dictionary was renewed."""
        live = self.all()
        self.code[live] = new_of[self.code[live]]
        self._head = np.full(0, -1, np.int64)
        codes = np.unique(self.code[live])
        self._head = grown(self._head, codes_size, -1)
        self.link(codes, live)
