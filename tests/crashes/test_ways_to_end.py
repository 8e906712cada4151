"""Killed while it is stopped, while a transaction is given up, over real RocksDB files, and with the disk lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from millstream.topics.memory.faults import Request, When
from tests.crashes.case import Case
from tests.crashes.enumeration import killed_once, wrong_runs
from tests.crashes.pipelines import BY_NAME, CASES
from tests.crashes.world import Faulty, World, bounded, run, stopped

STATEFUL = ["windows, final", "sessions, update", "join, outer"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_kill_in_a_worker_that_is_being_stopped_changes_no_output(case: Case) -> None:
    """Killed at work or while it closes."""
    assert killed_once(case, stopped, at_most=14) == []


@pytest.mark.parametrize("name", STATEFUL)
def test_nor_a_kill_with_the_files_of_rocksdb_as_the_crash_left_them(name: str, tmp_path: Path) -> None:
    points = run(BY_NAME[name], bounded, Faulty(disks=tmp_path / "clean")).processes[0].points
    writes = [at for at, point in enumerate(points) if point.what.startswith(("writing", "opening"))]
    runs = (Faulty(kills={0: at}, disks=tmp_path / str(at)) for at in writes)
    assert wrong_runs(BY_NAME[name], bounded, runs) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nor_do_the_files_of_rocksdb_read_while_it_works(case: Case, tmp_path: Path) -> None:
    """With a checkpoint after every commit, all that is not of the last one is looked up there."""
    often = {"poll_records_max": 3, "checkpoint_interval_ms": 1}
    faulty = Faulty(settings=often, disks=tmp_path)
    assert wrong_runs(case, bounded, [faulty], must_crash=False) == []


@pytest.mark.parametrize("name", STATEFUL)
def test_nor_a_kill_when_the_disk_is_lost_with_the_machine(name: str) -> None:
    """The next process runs elsewhere, and has nothing but the changelogs."""
    assert killed_once(BY_NAME[name], elsewhere, at_most=20) == []


async def elsewhere(world: World) -> None:
    """As `bounded`, the second time on another machine."""
    await world.feed()
    process = world.process("one", until_end=True)
    await process.ended()
    if process.dead:
        await world.process("two", until_end=True).ended()


ABORTS: list[tuple[Request, int, When]] = [
    ("produce", 3, "before"),
    ("produce", 6, "after"),
    ("send_offsets", 2, "before"),
    ("commit", 3, "before"),
    ("commit", 3, "after"),
    ("init_producer", 2, "after"),
]


@pytest.mark.parametrize(("request_kind", "nth", "when"), ABORTS)
def test_nor_a_kill_around_a_transaction_that_is_given_up(request_kind: Request, nth: int, when: When) -> None:
    """A request or its answer is lost, so the shard is dropped and taken again; killed at points of that too."""
    case = BY_NAME["windows, final"]
    faulty = Faulty(prepare=lambda broker: broker.faults.lose(request_kind, nth, when))
    assert wrong_runs(case, bounded, [faulty], must_crash=False) == []
    assert any(point.what.startswith("Drop") for point in run(case, bounded, faulty).processes[0].points)
    assert killed_once(case, bounded, at_most=10, faulty=faulty) == []
