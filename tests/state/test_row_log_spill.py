"""A row log larger than memory: what is in memory, what is on disk, and that both say the same."""

from __future__ import annotations

import random
import resource
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.state import row_side
from millstream.state.errors import DiskError
from millstream.state.frame_bytes import compact, frame_bytes
from millstream.state.row_chunks import Chunk, Flags, Picked
from millstream.state.row_log import RowLog
from millstream.state.row_parts import cuts
from millstream.state.spill import write_columns
from millstream.state.store import Changes
from tests.workers.test_interval_join_spill import in_a_process_of_its_own

SCHEMA = {"k": pl.String(), "v": pl.Int64(), "text": pl.String()}
Entries = dict[bytes, bytes | None]


def log_of(folder: Path | None, bytes_max: int = 0, entries: Entries | None = None) -> RowLog:
    log = RowLog("join", lambda frame: frame["k"], (SCHEMA, {"k": pl.String()}))
    if folder is not None:
        log.spill_to(folder, bytes_max)
    log.restore([Changes.of(list(entries), list(entries.values()))] if entries else (), ())
    log.open(-100)
    return log


def keep(log: RowLog, numbers: range, key: Callable[[int], str] = "k{}".format) -> None:
    """Rows of these times and values."""
    data = {"k": list(map(key, numbers)), "v": list(numbers), "text": [f"{number} " * 20 for number in numbers]}
    log.keep(0, pl.DataFrame(data, schema=SCHEMA), np.array(numbers), np.zeros(len(numbers), np.int64))


def everything(chunk: Chunk) -> Flags:
    return np.ones(len(chunk), np.bool_)


def picked(log: RowLog, among: frozenset[int] | None = None) -> Picked:
    """The rows of these times, or all."""
    return log.pick(0, everything if among is None else lambda chunk: np.isin(chunk.times, list(among)))


def commit(log: RowLog, entries: Entries) -> None:
    for changes in log.take_changes():
        entries |= dict(changes.pairs())


def state(log: RowLog) -> list[Any]:
    """All rows, with their times."""
    some = picked(log)
    return some.frame().hstack([pl.Series("time", some.times)]).rows()


def there(entries: Entries) -> Entries:
    return {key: value for key, value in sorted(entries.items()) if value is not None}


@settings(max_examples=60)
@given(st.integers(0, 1 << 40), st.sampled_from([0, 2_000, 20_000]))
def test_the_same_as_in_memory(seed: int, bytes_max: int) -> None:
    """Rows kept, dropped, committed, written again, restored: the same rows, and memory within the limit."""
    chance, folder = random.Random(seed), Path(gettempdir())
    logs, told = [log_of(None), log_of(folder, bytes_max)], ({}, {})  # type: tuple[list[RowLog], tuple[Entries, Entries]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_side, "_GARBAGE_ROWS_MIN", 5)
        patch.setattr(row_side, "_BLOCKS_A_MERGE", 4)
        patch.setattr(row_side, "_LISTED_ROWS_MIN", chance.choice([10, 10_000]))
        for start in range(0, 600, 20):
            among = frozenset(number for number in range(start + 20) if chance.random() < 0.3)
            crashes, stop = chance.random() < 0.1, start + chance.randrange(1, 20)
            for number, log in enumerate(logs):
                keep(log, range(start, stop))
                log.drop(0, picked(log, among), told=True)
                if among:
                    commit(log, told[number])
                assert log.size_bytes <= bytes_max + 2 * log.rows(0) or number == 0
            assert state(logs[0]) == state(logs[1])
            if crashes and among:
                begun = state(logs[0])
                assert state(log_of(None, 0, there(told[1]))) == begun
                logs = [log_of(None, 0, there(told[0])), log_of(folder, bytes_max, there(told[1]))]
                assert [state(log) for log in logs] == [begun, begun]


def test_dropped_rows_take_no_disk(tmp_path: Path) -> None:
    """Of ever new rows one in a thousand stays: files are as few and as large as what lives asks for, texts included."""
    log = log_of(tmp_path, 200_000)
    for start in range(0, 100_000, 1_000):
        keep(log, range(start, start + 1_000))
        some = log.pick(0, lambda chunk: chunk.times % 1_000 > 0)
        log.drop(0, some.where(some.times < start), told=True)
        log.take_changes()
    chunks = log._sides[0].chunks.chunks
    assert log.rows(0) == 1_099
    assert log.disk_bytes < 4 * sum(chunk.living_bytes for chunk in chunks)
    assert len(chunks) < 20
    assert picked(log).frame()["v"].to_list() == [*range(0, 99_000, 1_000), *range(99_000, 100_000)]
    assert list(tmp_path.iterdir()) == []


def test_a_restore_holds_to_the_limit(tmp_path: Path) -> None:
    """Rows go to disk block by block; those that were dropped do not come back."""
    log, entries = log_of(None), {}  # type: tuple[RowLog, Entries]
    for start in range(0, 40_000, 1_000):
        keep(log, range(start, start + 1_000))
        log.drop(0, log.pick(0, lambda chunk: chunk.times % 3 == 0), told=True)
        commit(log, entries)
        log.drop(0, log.pick(0, lambda chunk: chunk.times % 5 == 0), told=True)
        commit(log, entries)
    small = log_of(tmp_path, log.size_bytes // 10, there(entries))
    assert small.size_bytes <= log.size_bytes // 10
    assert small.disk_bytes > log.size_bytes // 2
    assert picked(small).frame().equals(picked(log).frame())
    assert (small.next_number, small.rows(0)) == (log.next_number, log.rows(0))


def test_codes_are_renewed_on_disk(tmp_path: Path) -> None:
    """Of many keys that came and went the dictionary keeps those that live, and rows on disk are found by them."""
    log = log_of(tmp_path, 100_000)
    keep(log, range(70_000))
    log.drop(0, log.pick(0, lambda chunk: (chunk.times < 69_000) & (chunk.times % 1_000 > 0)), told=False)
    log.advance(1, (0, 0))
    assert log.codes_size < 2_000
    codes = log.mask(log.code_of(pl.Series(["k69995", "k5", "k3000"])))
    assert log.pick(0, lambda chunk: codes[chunk.codes]).frame()["v"].to_list() == [3_000, 69_995]
    assert log.size_bytes <= 100_000


def test_a_commit_reads_new_rows_only(tmp_path: Path) -> None:
    """Rows on disk are not looked at again by the commits after theirs."""
    log = log_of(tmp_path, 0)
    keep(log, range(1_000))
    log.take_changes()
    (old,) = log._sides[0].chunks.chunks
    old.numbers = np.zeros(0, np.int64)  # not to be read
    keep(log, range(1_000, 1_100))
    blocks = [key for changes in log.take_changes() for key, _ in changes.pairs() if key[:1] == b"R"]
    assert len(blocks) == 1


@settings(max_examples=60)
@given(st.lists(st.integers(1, 40), max_size=6), st.integers(0, 1 << 40))
def test_rows_by_their_places(sizes: list[int], seed: int) -> None:
    """Any places, in any order, more than once: as if all were gathered first."""
    log, chance, start = log_of(Path(gettempdir()), 1_000), random.Random(seed), 0
    for size in sizes:
        keep(log, range(start, start + size))
        start += size
    some = picked(log, frozenset(number for number in range(start) if chance.random() < 0.8))
    places = np.array([chance.randrange(len(some)) for _ in range(chance.randrange(50))] if len(some) else [], np.int64)
    assert some.at(places).equals(some.frame()[places])
    assert pl.concat([some.frame().clear(), *(part.frame() for part in some.in_parts(1_500))]).equals(some.frame())


def test_parts_are_about_as_large_as_asked_for() -> None:
    """A few of the rows of each chunk say where to cut."""
    chance = np.random.default_rng(3)
    times = chance.integers(0, 1_000_000, 50_000)
    frame = pl.DataFrame({"v": times})
    chunks = [Chunk(frame[at : at + 5_000], *([times[at : at + 5_000]] * 4)) for at in range(0, 50_000, 5_000)]
    part_bytes = sum(chunk.whole_bytes for chunk in chunks) // 10 + 1_000
    begins = cuts(chunks, "times", 1 << 60, part_bytes)
    sizes = np.diff([0, *np.searchsorted(np.sort(times), begins), 50_000])
    assert len(begins) == 9
    assert (sizes > 4_000).all()
    assert (sizes < 6_000).all()
    assert cuts(chunks, "times", 480_000, part_bytes) == [begin for begin in begins if begin < 480_000]
    assert cuts(chunks, "times", -5, part_bytes) == []
    assert cuts([Chunk(frame, *([np.full(50_000, 7)] * 4))], "times", 1 << 60, part_bytes) == []


def test_few_rows_bring_not_the_texts_of_all_to_disk(tmp_path: Path) -> None:
    """Rows taken out of a frame share its texts; a file has its own only. (Else it would be a hundred times as large.)"""
    whole = pl.DataFrame({"text": [f"{number} " * 20 for number in range(10_000)], "list": [["a" * 20]] * 10_000})
    few = whole[np.arange(0, 10_000, 100)]
    written = write_columns(tmp_path, few, ())
    assert written.frame.equals(few)
    assert written.size_bytes < 3 * frame_bytes(few)
    assert compact(whole) is whole
    assert compact(few).schema == few.schema


def stopped_by_a_full_disk(folder: str) -> str:
    """A limit on the size of files stands for a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    log = log_of(Path(folder), 16 << 20)
    try:
        for start in range(0, 400_000, 10_000):
            keep(log, range(start, start + 10_000))
    except DiskError as error:
        return str(error)
    return "nothing"


def test_a_full_disk_stops_it_with_a_clear_error(tmp_path: Path) -> None:
    said = in_a_process_of_its_own(f"from {__name__} import *; print(stopped_by_a_full_disk(*sys.argv[1:]))", tmp_path)
    assert said.startswith(f"{tmp_path}: ")
    assert "File too large" in said
    assert list(tmp_path.iterdir()) == []


def most_written_at_once(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> tuple[int, int]:
    """Bytes of rows in the blocks of one commit at most, of a log in which one row in five stays; and in all blocks at the end."""
    monkeypatch.setattr(row_side, "_GARBAGE_ROWS_MIN", 1_000)
    sizes: list[int] = []
    add = row_side.RowSide.add_block

    def counted(side: row_side.RowSide, first: int, frame: pl.DataFrame) -> None:
        sizes.append(frame_bytes(frame))
        add(side, first, frame)

    monkeypatch.setattr(row_side.RowSide, "add_block", counted)
    log, entries, most = log_of(folder, 500_000), {}, 0  # type: tuple[RowLog, Entries, int]
    for start in range(0, 60_000, 500):
        keep(log, range(start, start + 500))
        commit(log, entries)
        log.drop(0, log.pick(0, lambda chunk: chunk.times % 5 > 0), told=True)
        sizes.clear()
        commit(log, entries)
        most = max(most, sum(sizes))
    assert state(log_of(None, 0, there(entries))) == state(log)
    return most, sum(len(value) for value in there(entries).values() if value)


def test_no_commit_writes_more_again_than_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is dead in the changelog goes all the same, from the newest blocks; without a limit all is written again at once."""
    with monkeypatch.context() as patch:
        limited, left = most_written_at_once(patch, tmp_path)
    with monkeypatch.context() as patch:
        unlimited, best = most_written_at_once(patch, None)
    assert 0 < limited < 700_000
    assert unlimited > 900_000
    assert left < 3 * best


def test_a_row_that_outlives_all_others_does_not_make_lists_grow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Lists of drops are about as many as rows, however small the limit and however many have come and gone."""
    monkeypatch.setattr(row_side, "_LISTED_ROWS_MIN", 5_000)
    log, entries = log_of(tmp_path, 10_000), {}  # type: tuple[RowLog, Entries]
    for start in range(0, 60_000, 500):
        keep(log, range(start, start + 500))
        commit(log, entries)
        log.drop(0, log.pick(0, lambda chunk: chunk.times > 0), told=True)
        commit(log, entries)
    assert sum(len(value or b"") for key, value in there(entries).items() if key[:1] == b"D") < 8 * 10_000
    assert picked(log).times.tolist() == picked(log_of(None, 0, there(entries))).times.tolist() == [0]
