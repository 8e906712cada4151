"""Join buffers larger than memory: the same results, little memory, nothing left behind."""

from __future__ import annotations

import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.interval_join import PURCHASES, REACH_MS, VIEWS, Nobody, batches
from millstream.state import block_log
from millstream.state.checkpoint import write
from millstream.state.errors import DiskError
from millstream.state.restore import restore
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.batch import MAX_TIME, MIN_TIME
from millstream.workers.operators.interval_join import How, IntervalJoin, JoinOperator
from tests.workers.join_run import Run, play
from tests.workers.test_interval_join_oracle import case, join_of


@settings(max_examples=60)
@given(st.integers(0, 1 << 40), st.sampled_from([0, 300, 3_000]))
def test_results_do_not_depend_on_where_rows_are(seed: int, bytes_max: int) -> None:
    """Every row on disk, or some; with late rows, merged changelog blocks, commits, checkpoints and crashes anywhere."""
    one = case(seed, late=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_log, "FAN_IN", 2)
        run = Run(join_of(one), memory_bytes_max=bytes_max)
        assert play(one.events, run, random.Random(seed), crashes=True) == one.expected()


@settings(max_examples=20)
@given(st.integers(0, 1 << 40), st.sampled_from([10**6, 10**9]))
def test_gaps_of_years_on_disk(seed: int, scale: int) -> None:
    """Buckets that widen while their runs are on disk."""
    one = case(seed, late=True, scale=scale)
    assert play(one.events, Run(join_of(one), memory_bytes_max=0), random.Random(seed), crashes=True) == one.expected()


BATCHES = batches(rows=2_000_000, keys=2_000, kept_rows=1_000_000, seed=7)[:60]


def operator_of(how: How, folder: Path | None, bytes_max: int) -> JoinOperator:
    operator = IntervalJoin(("user",), 0, REACH_MS, how).build([VIEWS, PURCHASES])
    assert isinstance(operator, JoinOperator)
    if folder is not None:
        operator.state.spill_to(folder, bytes_max)
    operator.open(Nobody(), MIN_TIME)
    return operator


def memory(operator: JoinOperator) -> int:
    return sum(buffer.size_bytes for buffer in operator.state.buffers)


def worked_off(operator: JoinOperator) -> tuple[list[tuple[int, int, int]], int, int]:
    """Of each batch how many pairs, and sums over them; the most memory after a batch, and the most on disk."""
    told, most, disk = [], 0, 0
    for side, batch, watermark in BATCHES:
        emits = [*operator.process(batch, side), *operator.advance(watermark)]
        frames = [emit.batch.frame for emit in emits]
        told.append(
            (
                sum(frame.height for frame in frames),
                sum(int(frame["view"].sum()) for frame in frames),
                sum(int(frame["purchase"].sum()) for frame in frames),
            )
        )
        operator.state.take_changes()
        most = max(most, memory(operator))
        disk = max(disk, sum(buffer.disk_bytes for buffer in operator.state.buffers))
    told.append((sum(len(emit.batch) for emit in operator.advance(MAX_TIME)), 0, 0))
    return told, most, disk


@pytest.mark.parametrize("how", ["inner", "outer"])
def test_ten_times_the_memory(how: How, tmp_path: Path) -> None:
    """The same pairs and padded rows; what is in memory stays below the limit; the rest is on disk, and has no name there."""
    expected, whole, _ = worked_off(operator_of(how, None, 0))
    bytes_max = whole // 10
    operator = operator_of(how, tmp_path, bytes_max)
    found, most, disk = worked_off(operator)
    assert found == expected
    assert most <= bytes_max + max(batch.frame.estimated_size() for _, batch, _ in BATCHES)
    assert disk > 5 * bytes_max
    assert list(tmp_path.iterdir()) == []
    assert (memory(operator), sum(buffer.disk_bytes for buffer in operator.state.buffers)) == (0, 0)


def in_a_process_of_its_own(code: str, *arguments: object) -> str:
    """What it prints. Imports are done before memory is measured."""
    command = [sys.executable, "-c", f"from {__name__} import *\n{code}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def anonymous_bytes() -> int:
    """What the process has for itself: pages of mapped files do not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def growth(folder: str, bytes_max: str) -> int:
    """Most anonymous memory, above that at the start, of a join that keeps 1.6 million rows. `bytes_max` 0: no limit."""
    operator = operator_of("inner", Path(folder) if int(bytes_max) else None, int(bytes_max))
    begun, most = anonymous_bytes(), 0
    for seed in range(20):
        for side, batch, _ in batches(rows=80_000, keys=1_000_000, kept_rows=1_000_000, seed=seed):
            list(operator.process(batch, side))
            operator.state.take_changes()
            operator.state.take_checkpoint()
            most = max(most, anonymous_bytes() - begun)
    assert sum(buffer.rows for buffer in operator.state.buffers) == 1_600_000
    return most


def test_memory_of_the_process_stays_low(tmp_path: Path) -> None:
    """Of rows that take 150 MB; without the limit the process grows by that much, so it is the limit that holds it down."""
    limited, unlimited = (
        int(in_a_process_of_its_own("print(growth(*sys.argv[1:]))", tmp_path, limit)) for limit in (8 << 20, 0)
    )
    assert limited < 64 << 20
    assert unlimited > 128 << 20


def restored(folder: Path, bytes_max: int, database: MemoryDatabase) -> JoinOperator:
    operator = IntervalJoin(("user",), 0, REACH_MS, "outer").build([VIEWS, PURCHASES])
    assert isinstance(operator, JoinOperator)
    if bytes_max:
        operator.state.spill_to(folder, bytes_max)
    restore(database, {"join": operator.state}, {})
    operator.open(Nobody(), MIN_TIME)
    return operator


def test_a_restore_holds_to_the_limit(tmp_path: Path) -> None:
    """Rows go to disk as they come back; what was matched stays so."""
    operator, database = operator_of("outer", None, 0), MemoryDatabase()
    for side, batch, _ in BATCHES:
        list(operator.process(batch, side))
        operator.state.take_changes()
    write(database, {"join": operator.state}, {})
    whole = restored(tmp_path, 0, database)
    bytes_max = memory(whole) // 10
    small = restored(tmp_path, bytes_max, database)
    rows = sum(buffer.rows for buffer in operator.state.buffers)
    assert [sum(buffer.rows for buffer in one.state.buffers) for one in (whole, small)] == [rows, rows]
    assert memory(small) <= bytes_max
    expected, found = (
        sorted(row for emit in one.advance(MAX_TIME) for row in emit.batch.frame.select("view", "purchase").iter_rows())
        for one in (whole, small)
    )
    assert found == expected


def stopped_by_a_full_disk(folder: str) -> str:
    """A limit on the size of files stands for a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    operator = operator_of("inner", Path(folder), 8 << 20)
    try:
        for side, batch, _ in BATCHES:
            list(operator.process(batch, side))
    except DiskError as error:
        return str(error)
    return "nothing"


def test_a_full_disk_stops_it_with_a_clear_error(tmp_path: Path) -> None:
    said = in_a_process_of_its_own("print(stopped_by_a_full_disk(*sys.argv[1:]))", tmp_path)
    assert said.startswith(f"{tmp_path}: ")
    assert "File too large" in said
    assert said.endswith("then start again")
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_nothing(tmp_path: Path) -> None:
    code = "operator = operator_of('inner', Path(sys.argv[1]), 0); side, batch, _ = BATCHES[0]; "
    code += "list(operator.process(batch, side)); print(operator.state.buffers[0].disk_bytes, flush=True); "
    code += "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    command = [sys.executable, "-c", f"from {__name__} import *\n{code}", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert int(done.stdout) > 1_000_000
    assert list(tmp_path.iterdir()) == []
