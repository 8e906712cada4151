"""As-of and window joins larger than memory: the same results, little memory, nothing left behind."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.interval_join import batches
from benchmarks.waiting_joins import STEPS, operator_of
from millstream import hopping
from millstream.state import row_chunks, row_log, row_side
from millstream.topics.batch import MAX_TIME
from millstream.workers import joined_windows
from millstream.workers.operators.window_join import WindowJoin
from tests.oracles.asof_join import asof_join
from tests.workers import test_asof_join_oracle as asof
from tests.workers import test_window_join_oracle as window
from tests.workers.test_interval_join_spill import anonymous_bytes, in_a_process_of_its_own
from tests.workers.waiting_join_run import Run, play

HOPPING = WindowJoin(hopping("10m", "4m"), ("user",), "outer")
ALL = {**STEPS, "hopping": HOPPING}
LIMITS = st.sampled_from([0, 300, 3_000])


@settings(max_examples=60)
@given(st.integers(0, 1 << 40), LIMITS)
def test_an_as_of_join_does_not_depend_on_where_rows_are(seed: int, bytes_max: int) -> None:
    """Every row on disk, or some; with late rows and tombstones, commits, checkpoints and crashes anywhere."""
    one = asof.case(seed, late=True)
    run = play(one.events, Run(one.step, memory_bytes_max=bytes_max), random.Random(seed), crashes=True)
    assert asof.found(run) == asof_join([*one.events, MAX_TIME], one.rules)


@settings(max_examples=60)
@given(st.integers(0, 1 << 40), LIMITS)
def test_a_window_join_does_not_depend_on_where_rows_are(seed: int, bytes_max: int) -> None:
    """Windows on a grid and sessions; with late rows, null keys, commits, checkpoints and crashes anywhere."""
    one = window.case(seed, late=True)
    expected = one.expected()
    assume(not expected.crowded)
    run = play(one.events, Run(one.step, memory_bytes_max=bytes_max), random.Random(seed), crashes=True)
    assert window.found(run) == expected


@pytest.mark.parametrize(("scale", "bytes_max"), [(1, 0), (1, 1_500), (1 << 33, 3_000)])
def test_small_pieces_on_disk(monkeypatch: pytest.MonkeyPatch, scale: int, bytes_max: int) -> None:
    """Times far apart; blocks of the changelog written again, chunks merged and windows cut in halves at every turn."""
    monkeypatch.setattr(row_side, "_GARBAGE_ROWS_MIN", 3)
    monkeypatch.setattr(row_side, "_BLOCKS_A_MERGE", 2)
    monkeypatch.setattr(row_chunks, "_FAN_IN", 2)
    monkeypatch.setattr(row_chunks, "_SMALL_PARTS", 1)
    monkeypatch.setattr(joined_windows, "_MEMBERS_MAX", 4)
    for seed in range(25):
        one, other = asof.case(seed, late=True, scale=scale), window.case(seed, late=True, scale=scale)
        run = play(one.events, Run(one.step, memory_bytes_max=bytes_max), random.Random(seed), crashes=True)
        assert asof.found(run) == asof_join([*one.events, MAX_TIME], one.rules), seed
        expected = other.expected()
        if not expected.crowded:
            run = play(other.events, Run(other.step, memory_bytes_max=bytes_max), random.Random(seed), crashes=True)
            assert window.found(run) == expected, seed


@pytest.mark.parametrize(("bytes_max", "spills"), [(0, True), (1 << 20, False), (None, False)])
@pytest.mark.parametrize("module", [asof, window])
def test_what_is_written_is_counted(module: Any, bytes_max: int | None, spills: bool) -> None:
    one = module.case(3, late=True)
    run = play(one.events, Run(one.step, memory_bytes_max=bytes_max), random.Random(3), crashes=False)
    assert (run.counts.counts.get("join_spilled_bytes", 0) > 0) == spills


BATCHES = batches(rows=800_000, keys=2_000, kept_rows=400_000, seed=7)
Sums = tuple[int, int, int]


def sums(frame: pl.DataFrame) -> Sums:
    return frame.height, int(frame["view"].sum()), int(frame["purchase"].sum())


def worked_off(operator: Any) -> tuple[list[Sums], int, int]:
    """Of each batch, and of the end, sums over what was given; the most memory after a piece of work, and the most on disk."""
    told, most, disk = [], 0, 0
    for side, batch, watermark in [*BATCHES, (0, None, MAX_TIME)]:
        found = [] if batch is None else [sums(emit.batch.frame) for emit in operator.process(batch, side)]
        most, disk = max(most, operator.rows.size_bytes), max(disk, operator.rows.disk_bytes)
        for emit in operator.advance(watermark):
            found.append(sums(emit.batch.frame))
            most = max(most, operator.rows.size_bytes)
        operator.rows.take_changes()
        told.append((sum(one[0] for one in found), sum(one[1] for one in found), sum(one[2] for one in found)))
    return told, most, disk


@pytest.mark.parametrize("name", list(ALL))
def test_ten_times_the_memory(name: str, tmp_path: Path) -> None:
    """The same results; what is in memory stays below the limit; the rest is on disk, and has no name there."""
    expected, whole, none = worked_off(operator_of(ALL[name], None, 0))
    bytes_max = whole // 10
    operator = operator_of(ALL[name], tmp_path, bytes_max)
    found, most, disk = worked_off(operator)
    assert found == expected
    assert none == 0
    assert most <= bytes_max
    assert disk > 5 * bytes_max
    assert list(tmp_path.iterdir()) == []
    assert (operator.rows.size_bytes, operator.rows.disk_bytes) == (0, 0)


def growth(name: str, folder: str, bytes_max: str) -> int:
    """Most anonymous memory, above that at the start, while 1.2 million rows wait and all become certain at once.

    `bytes_max` 0: no limit.
    """
    operator = operator_of(ALL[name], Path(folder) if int(bytes_max) else None, int(bytes_max))
    begun = most = anonymous_bytes()
    for seed in range(15):
        for side, batch, _ in batches(rows=80_000, keys=20_000, kept_rows=1_000_000, seed=seed):
            for _ in operator.process(batch, side):
                pass
            operator.rows.take_changes()
            operator.rows.take_checkpoint()
            most = max(most, anonymous_bytes())
    assert operator.rows.rows(0) + operator.rows.rows(1) == 1_200_000
    rows = 0
    for emit in operator.advance(MAX_TIME):
        rows += len(emit.batch)
        most = max(most, anonymous_bytes())
    assert rows > 500_000
    return most - begun


@pytest.mark.parametrize("name", list(ALL))
def test_memory_of_the_process_stays_low(name: str, tmp_path: Path) -> None:
    """Of rows that take 120 MB; without the limit the process grows by that much, so it is the limit that holds it down."""
    code = f"from {__name__} import *; print(growth(*sys.argv[1:]))"
    limited, unlimited = (int(in_a_process_of_its_own(code, name, tmp_path, limit)) for limit in (8 << 20, 0))
    assert limited < 96 << 20
    assert unlimited > 160 << 20


def most_at_once(operator: Any) -> int:
    """Rows of both sides in the largest piece of a window join that closes everything, each counted once."""
    for side, batch, _ in BATCHES:
        for _ in operator.process(batch, side):
            pass
    pieces = operator.windows.close(MAX_TIME)
    return max(sum(len(np.unique(members.rows)) for members in sides) for sides in pieces)


@pytest.mark.parametrize("name", ["window", "sessions", "hopping"])
def test_a_window_larger_than_the_limit_is_given_in_portions(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its keys. (Where nothing says where to cut, half of all rows and more are taken at once.)"""
    rows = sum(len(batch) for _, batch, _ in BATCHES)
    assert most_at_once(operator_of(ALL[name], tmp_path, 8 << 20)) < rows // 20
    monkeypatch.setattr(row_log, "cuts", lambda *_: [])
    monkeypatch.setattr(joined_windows, "_MEMBERS_MAX", 1 << 40)
    assert most_at_once(operator_of(ALL[name], tmp_path, 8 << 20)) > rows // 2


@pytest.mark.parametrize("name", list(ALL))
def test_ever_new_keys(name: str, tmp_path: Path) -> None:
    """A long run in which no key comes twice: memory, files and names of keys stay as they were after the first windows."""
    operator = operator_of(ALL[name], tmp_path, 1 << 20)
    most = [0, 0]
    for number, (side, batch, watermark) in enumerate(batches(rows=1_600_000, keys=1 << 40, kept_rows=100_000, seed=3)):
        for _ in [*operator.process(batch, side), *operator.advance(watermark)]:
            pass
        operator.rows.take_changes()
        operator.rows.take_checkpoint()
        assert operator.rows.size_bytes <= 1 << 20
        most[number >= 40] = max(most[number >= 40], operator.rows.disk_bytes)
    assert 1 << 20 < most[1] < 1.5 * most[0]
    assert operator.rows.codes_size < 1_000_000
