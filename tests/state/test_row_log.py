"""Rows that wait, in a changelog: what comes back, how many records it takes, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from millstream.state.errors import CorruptStoreError, StateError
from millstream.state.row_chunks import Chunk
from millstream.state.row_log import RowLog
from millstream.state.store import Changes

SIDES = ({"k": pl.String(), "v": pl.Int64()}, {"k": pl.String()})


def log_of(*changes: Changes, sides: Any = SIDES) -> RowLog:
    log = RowLog("join", lambda frame: frame["k"], sides)
    log.restore((), changes)
    log.open(-100)
    return log


def keep(log: RowLog, times: range, key: str = "k") -> None:
    frame = pl.DataFrame({"k": [key] * len(times), "v": list(times)}, schema=SIDES[0])
    log.keep(0, frame, np.array(times), np.zeros(len(times), np.int64))


def everything(_chunk: Chunk) -> Any:
    return np.ones(len(_chunk.times), np.bool_)


def values(log: RowLog) -> list[int]:
    return log.pick(0, everything).frame()["v"].to_list()


def drop(log: RowLog, below: int, key: str = "k", *, told: bool = True) -> None:
    codes = log.mask(log.code_of(pl.Series([key])))
    log.drop(0, log.pick(0, lambda chunk: (chunk.times < below) & codes[chunk.codes]), told=told)


def table(changes: list[Changes]) -> dict[bytes, bytes]:
    found = dict(pair for one in changes for pair in one.pairs())
    return {key: value for key, value in found.items() if value is not None}


def test_rows_come_back_in_their_order_without_those_dropped() -> None:
    log = log_of()
    keep(log, range(5))
    keep(log, range(10, 12))
    changes = log.take_changes()
    drop(log, 3)
    keep(log, range(20, 22))
    changes += log.take_changes()
    assert values(log_of(*changes)) == values(log) == [3, 4, 10, 11, 20, 21]
    assert log_of(*changes).next_number == log.next_number


def test_what_was_dropped_before_a_commit_is_never_written() -> None:
    log = log_of()
    keep(log, range(5))
    drop(log, 5)
    assert set(table(log.take_changes())) == {b"W"}


def test_blocks_and_drops_go_when_all_their_rows_have() -> None:
    log = log_of()
    changes = []
    for start in range(0, 100, 10):
        keep(log, range(start, start + 10))
        drop(log, start - 5)
        changes += log.take_changes()
    assert len(table(changes)) < 7
    drop(log, 100, told=False)
    changes += log.take_changes()
    assert set(table(changes)) == {b"W"}


def test_many_small_commits_make_few_records() -> None:
    """The newest blocks become one, again and again; a restore reads some hundreds, not one a commit."""
    log = log_of()
    kept: dict[bytes, bytes | None] = {}
    for number in range(3_000):
        keep(log, range(number, number + 1))
        kept |= dict(pair for one in log.take_changes() for pair in one.pairs())
    there = {key: value for key, value in kept.items() if value is not None}
    assert len(there) < 600
    assert values(log_of(Changes.of(list(there), list(there.values())))) == list(range(3_000))


def test_few_living_rows_among_many_dead_are_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One key's rows stay while thousands come and go: what is in the changelog is about what lives."""
    monkeypatch.setattr("millstream.state.row_side._GARBAGE_ROWS_MIN", 100)
    log = log_of()
    changes = []
    for start in range(0, 5_000, 50):
        keep(log, range(start, start + 49))
        keep(log, range(start + 49, start + 50), key="stays")
        changes += log.take_changes()
        drop(log, start + 50)
        changes += log.take_changes()
    assert values(log_of(*changes)) == values(log) == list(range(49, 5_000, 50))
    assert sum(key[:1] in b"RD" for key in table(changes)) < 30


def test_a_large_batch_is_several_records() -> None:
    """None is larger than a broker takes."""
    log = log_of()
    keep(log, range(100_000))
    changes = log.take_changes()
    assert len(table(changes)) > 3
    assert values(log_of(*changes)) == list(range(100_000))


def test_the_larger_watermark_wins() -> None:
    log = log_of()
    log.advance(77, (70, 60))
    changes = log.take_changes()
    assert [log_of(*changes).open(watermark) for watermark in (5, 100)] == [77, 100]
    assert [log_of(*changes).freed(side) for side in (0, 1)] == [70, 60]


def test_codes_of_keys_that_are_gone_are_forgotten() -> None:
    """Of millions of keys that came and went the dictionary keeps those that live; masks still find them."""
    log = log_of()
    frame = pl.DataFrame({"k": [f"k{number}" for number in range(70_000)], "v": list(range(70_000))}, schema=SIDES[0])
    log.keep(0, frame, np.arange(70_000), np.zeros(70_000, np.int64))
    log.drop(0, log.pick(0, lambda chunk: chunk.times < 69_990), told=False)
    log.advance(1, (0, 0))
    assert log.codes_size < 100
    codes = log.mask(log.code_of(pl.Series(["k69995", "k5"])))
    assert log.pick(0, lambda chunk: codes[chunk.codes]).frame()["v"].to_list() == [69_995]


def test_other_columns_are_refused() -> None:
    log = log_of()
    keep(log, range(2))
    changes = log.take_changes()
    with pytest.raises(StateError, match=r"the columns have changed: v \(Int64 in the state, String now\)"):
        log_of(*changes, sides=({"k": pl.String(), "v": pl.String()}, SIDES[1]))
    with pytest.raises(CorruptStoreError, match="not a block of rows"):
        log_of(Changes.of([b"R0" + bytes(8)], [b"nonsense"]))
