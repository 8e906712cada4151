"""The memory broker's log against an obvious one: a list of what was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from millstream.topics.batch import Headers, Partition
from millstream.topics.broker import Isolation
from millstream.topics.memory.log import Columns, PartitionLog, Transaction

TIMES = st.integers(0, 5)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.tuples(st.sampled_from([None, b"a", b"b"]), TIMES), max_size=3)),
        st.tuples(
            st.just("transact"),
            st.integers(0, 1),
            st.lists(st.tuples(st.sampled_from([b"a", b"b"]), TIMES), max_size=3),
        ),
        st.tuples(st.just("end"), st.integers(0, 1), st.sampled_from(["committed", "aborted"])),
        st.tuples(st.just("delete"), st.integers(-1, 12)),
        st.tuples(st.just("compact"), st.booleans()),
    ),
    max_size=14,
)


@dataclass
class Written:
    """One offset: a record, or a marker where the value is None."""

    offset: int
    key: bytes | None
    value: bytes | None
    time: int
    transaction: Transaction | None
    marker: bool = False


@dataclass
class Obvious:
    """What was written, and what of it is left."""

    entries: list[Written] = field(default_factory=list)
    start: int = 0
    end: int = 0

    def add(self, entry: Written) -> None:
        self.entries.append(entry)
        self.end += 1

    def limit(self, isolation: Isolation, begun: dict[Transaction, int]) -> int:
        still = [at for transaction, at in begun.items() if transaction.outcome == "open"]
        return min(still, default=self.end) if isolation == "read_committed" else self.end

    def seen(self, isolation: Isolation, limit: int, start: int) -> list[tuple[int, bytes | None, bytes | None, int]]:
        return [
            (entry.offset, entry.key, entry.value, entry.time)
            for entry in self.entries
            if not entry.marker and start <= entry.offset < limit
            if isolation == "read_uncommitted" or not entry.transaction or entry.transaction.outcome == "committed"
        ]

    def compact(self, stable: int, keep_tombstones: bool) -> None:
        """Whole segments below the last stable offset only; here a segment below it is one that cannot straddle it."""
        live = [entry for entry in self.entries if entry.offset < stable and not entry.marker and _committed(entry)]
        last = {entry.key: entry.offset for entry in live if entry.key is not None}
        self.entries = [
            entry
            for entry in self.entries
            if entry.offset >= stable
            or entry.marker
            or (
                _committed(entry)
                and (entry.key is None or last[entry.key] == entry.offset)
                and (keep_tombstones or entry.value is not None)
            )
        ]


def _committed(entry: Written) -> bool:
    return entry.transaction is None or entry.transaction.outcome == "committed"


def run(operations: list[tuple[Any, ...]]) -> tuple[PartitionLog, Obvious, dict[Transaction, int]]:
    log, obvious = PartitionLog(Partition("a", 0)), Obvious()
    open_: dict[int, Transaction] = {}
    begun: dict[Transaction, int] = {}
    for operation in operations:
        match operation:
            case ("append", rows):
                write(log, obvious, rows, None)
            case ("transact", number, rows):
                transaction = open_.setdefault(number, Transaction(str(number)))
                begun.setdefault(transaction, obvious.end)
                write(log, obvious, rows, transaction)
            case ("end", number, outcome) if number in open_:
                transaction = open_.pop(number)
                transaction.outcome = outcome
                log.mark(transaction)
                obvious.add(Written(obvious.end, None, None, 0, None, marker=True))
            case ("delete", offset):
                log.delete_before(offset)
                obvious.start = max(obvious.start, obvious.end if offset < 0 else min(offset, obvious.end))
            case ("compact", keep_tombstones):
                obvious.entries = [entry for entry in obvious.entries if entry.offset >= obvious.start]
                log.compact(keep_tombstones=keep_tombstones)
                obvious.compact(obvious.limit("read_committed", begun), keep_tombstones)
    return log, obvious, begun


def write(log: PartitionLog, obvious: Obvious, rows: list[tuple[Any, int]], transaction: Transaction | None) -> None:
    first = obvious.end
    values = [b"%d" % (first + row) if time else None for row, (_, time) in enumerate(rows)]
    times = [time for _, time in rows]
    headers: dict[int, Headers] = {row: (("t", b"%d" % time),) for row, time in enumerate(times) if time % 2}
    columns = Columns([key for key, _ in rows], values, np.array(times, dtype=np.int64), headers)
    assert log.append(columns, transaction) == first + len(rows)
    for (key, time), value in zip(rows, values, strict=True):
        obvious.add(Written(obvious.end, key, value, time, transaction))


def read(log: PartitionLog, isolation: Isolation, start: int, records_max: int) -> list[tuple[Any, ...]]:
    """All that can be read from there, and that positions behave."""
    found: list[tuple[Any, ...]] = []
    position, limit = start, log.end_for(isolation)
    while position < limit:
        fetch = log.read(position, records_max, isolation)
        assert fetch.first_offset == position
        assert fetch.next_offset > position
        assert len(fetch) <= records_max
        assert (fetch.end_offset, fetch.caught_up) == (limit, fetch.next_offset >= limit)
        offsets, times = fetch.offsets.tolist(), fetch.timestamps.tolist()
        assert all(position <= offset < fetch.next_offset for offset in offsets)
        assert {row: (("t", b"%d" % time),) for row, time in enumerate(times) if time % 2} == fetch.headers
        found += zip(offsets, fetch.keys, fetch.values, times, strict=True)
        position = fetch.next_offset
    return found


@given(OPERATIONS, st.sampled_from(["read_committed", "read_uncommitted"]), st.integers(1, 4), st.integers(0, 12))
def test_what_is_read_is_what_was_written(
    operations: list[tuple[Any, ...]], isolation: Isolation, records_max: int, start: int
) -> None:
    """From any offset, in pieces of any size, through markers, aborted transactions, gaps and deleted beginnings."""
    log, obvious, begun = run(operations)
    limit = obvious.limit(isolation, begun)
    assert (log.start, log.end, log.end_for(isolation)) == (obvious.start, obvious.end, limit)
    start = min(max(start, log.start), log.end)
    assert read(log, isolation, start, records_max) == obvious.seen(isolation, limit, start)


@given(OPERATIONS, st.integers(0, 6))
def test_offsets_by_time(operations: list[tuple[Any, ...]], time: int) -> None:
    """The first record at or after the time, aborted ones included as in Kafka; the end where there is none."""
    log, obvious, begun = run(operations)
    end = obvious.limit("read_committed", begun)
    later = [e.offset for e in obvious.entries if not e.marker and e.offset >= obvious.start and e.time >= time]
    assert log.offset_at(time, "read_committed") == min([*later, end])


def test_a_million_records_are_read_in_their_order() -> None:
    log = PartitionLog(Partition("a", 0))
    values = [b"%d" % number for number in range(1_000_000)]
    for start in range(0, len(values), 8_000):
        part = values[start : start + 8_000]
        log.append(Columns(part, part, np.zeros(len(part), dtype=np.int64), {}))
    found: list[bytes | None] = []
    while len(found) < len(values):
        found += log.read(len(found), 50_000, "read_committed").values
    assert found == values
