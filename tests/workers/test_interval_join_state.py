"""The interval join: what is kept in the changelog and at a checkpoint, and how it comes back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from millstream.state import buffers, join_blocks
from millstream.state.errors import CorruptStoreError, StateError
from millstream.state.store import Changes
from millstream.topics.batch import MAX_TIME, MIN_TIME
from millstream.topics.schema import Schema
from millstream.workers.operators import interval_join as module
from millstream.workers.operators.interval_join import IntervalJoin
from tests.oracles.interval_join import Row
from tests.workers.join_run import Run

VIEWS = Schema.of({"user": "string", "page": "string", "ts": "timestamp_ms"})
PURCHASES = Schema.of({"user": "string", "price": "float", "ts": "timestamp_ms"})
JOIN = IntervalJoin(("user",), 0, 300_000)
HOWS: list[module.How] = ["inner", "left", "right", "outer"]


def rows(side: int, *times: int, key: str | None = "k", before: int = MIN_TIME, first: int = 0) -> list[Row]:
    """Rows of one key; their values count from `first` (lefts) or from 100 + first (rights)."""
    return [Row(side, (key,), time, 100 * side + first + number, before) for number, time in enumerate(times)]


def entries(changes: Sequence[tuple[str, Changes]]) -> dict[bytes, bytes | None]:
    return {key: value for _, one in changes for key, value in one.pairs()}


def test_a_commit_is_one_block_a_side_and_blocks_die() -> None:
    """Rows of one commit in one block; tombstones when all of its rows are behind the horizon; an inner join needs no more."""
    run = Run(IntervalJoin(("k",), 0, 10))
    run.rows(rows(0, 1, 2))
    run.rows(rows(0, 3, first=2))
    run.rows(rows(1, 3))
    run.commit()
    first = run.entries()
    assert sorted(key[:1] for key in first) == [b"L", b"R"]
    run.advance(14)
    run.commit()
    assert run.entries() == dict.fromkeys(first)
    run.rows(rows(0, 20))
    run.advance(40)
    before = len(run.changelog)
    run.commit()
    assert run.changelog[before:] == []  # kept and freed between two commits: never written


def test_a_checkpoint_has_what_is_alive() -> None:
    """Blocks that came and went between two checkpoints never reach the database."""
    run = Run(IntervalJoin(("k",), 0, 10))
    run.rows(rows(0, 1))
    run.commit()
    run.advance(20)
    run.rows(rows(0, 30))
    run.checkpoint()
    store = run.database.store("join")
    assert [key for chunk in store.scan() for key, _ in chunk.pairs()] == [b"L\x80" + bytes(6) + b"\x01"]
    run.advance(100)
    run.checkpoint()
    assert list(store.scan()) == []


def test_large_blocks_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record stays below what the broker takes; nothing is lost by cutting."""
    monkeypatch.setattr(join_blocks, "BLOCK_BYTES_MAX", 1_000)
    run = Run(IntervalJoin(("k",), 0, 1_000, "outer"))
    run.rows(rows(0, *range(500)))
    run.rows(rows(1, *range(0, 500, 2)))
    run.commit()
    sizes = [len(value or b"") for value in run.entries().values()]
    assert len(sizes) > 10
    assert max(sizes) < 3_000
    run.crash()
    run.rows(rows(1, 500, first=400))
    run.advance(MAX_TIME)
    pairs = {(left, 100 + right // 2) for left in range(500) for right in range(left, 500) if right % 2 == 0}
    assert set(run.given.pairs) == pairs | {(left, 500) for left in range(500)}
    assert run.given.padded == ([], [])


def test_numbers_are_not_given_twice() -> None:
    """All blocks have died; a new task goes on numbering, so an old hit can never mark a new row."""
    run = Run(IntervalJoin(("k",), 0, 10, "left"))
    run.rows(rows(0, 1))
    run.rows(rows(1, 2))
    run.commit()
    run.advance(100)
    run.commit()
    run.crash()
    run.rows(rows(0, 200, first=5))
    run.commit()
    living = [key for key, value in run.entries().items() if value is not None]
    assert sorted(living) == [b"L\x80" + bytes(6) + b"\x01", b"W"]


def test_offsets_that_were_reset_do_not_give_padded_rows_again() -> None:
    """The watermark kept with the rows is ahead of the committed one: rows it freed are not kept again."""
    run = Run(IntervalJoin(("k",), 0, 10, "left"))
    run.rows(rows(0, 1, 95))
    run.advance(100)
    run.commit()
    run.watermark = MIN_TIME
    run.start()
    assert run.operator.watermark == 100
    run.advance(101)
    assert run.given.padded == ([0], [])


def test_changed_columns_are_refused() -> None:
    run = Run(IntervalJoin(("k",), 0, 10))
    run.rows(rows(0, 1))
    run.commit()
    run.inputs = [Schema.of({"k": "string", "v": "float"})] * 2
    with pytest.raises(StateError, match=r"v \(Int64 in the state, Float64 now\).*reset the application's state"):
        run.start()


def test_a_block_that_is_none_is_a_corrupt_store() -> None:
    run = Run(IntervalJoin(("k",), 0, 10))
    run.changelog = [("join", Changes.of([b"L" + b"\x80" + bytes(7)], [b"not arrow"]))]
    with pytest.raises(CorruptStoreError, match="row block 0: not a block of rows"):
        run.start()


def test_a_code_holds_any_time_of_its_bucket() -> None:
    """The widest bucket there can be still fits into the low half of a code."""
    buffer = buffers.JoinBuffer(10**14, 10**14, outer=False)
    frame = pl.DataFrame({"k": ["a"] * 3})
    times = np.array([-1, 0, buffer.width - 1])
    high = buffers.key_hashes(frame, ["k"])
    nothing = np.empty(0, np.bool_), np.empty(0, np.int64)
    buffer.insert(buffers.Kept(frame, high, times, *nothing))
    found = buffer.probe(high[:1], np.array([0]), np.array([10**13]), np.array([0]), 10)
    assert sorted(int(row) for some in found for row in some.run.times_at(some.rows)) == [0, buffer.width - 1]


@pytest.mark.parametrize("how", HOWS)
def test_a_thousand_commits_leave_few_blocks(how: module.How) -> None:
    """At most seven blocks of each of four sizes, of rows and of hits; what is restored from them is the same."""
    run = Run(IntervalJoin(("k",), 0, 10**6, how))
    for number in range(1_000):
        run.rows(rows(0, number, first=number))
        if number % 3 == 0:
            run.rows(rows(1, number, first=1_000 + number))
            run.given.pairs.clear()
        run.commit()
    living = {key for key, value in run.entries().items() if value is not None}
    assert len(living) <= 4 * 7 * 4 + 1
    run.crash()
    run.rows(rows(1, 1_000, first=2_000))
    assert sorted(run.given.pairs) == [(left, 2_100) for left in range(1_000)]
    run.advance(MAX_TIME)
    assert run.given.padded == ([], [])


def test_a_merge_that_was_broken_off_counts_rows_once() -> None:
    """At-least-once: the merged block was written, then the process died before the small ones were deleted."""
    run = Run(IntervalJoin(("k",), 0, 10**6, "left"))
    for number in range(8):
        run.rows(rows(0, number, first=number))
        run.commit()
    merged = entries(run.changelog[-1:])
    assert [value is None for value in merged.values()] == [False] + [True] * 6  # the eighth was never written
    (key,) = [key for key, value in merged.items() if value is not None]
    run.changelog[-1] = ("join", Changes.of([key], [merged[key]]))
    run.crash()
    run.rows(rows(1, 100))
    assert sorted(run.given.pairs) == [(left, 100) for left in range(8)]
    run.commit()
    living = [name for name, value in run.entries().items() if value is not None]
    assert sorted(name[:1] for name in living) == [b"L", b"R", b"l"]
