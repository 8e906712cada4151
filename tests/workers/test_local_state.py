"""What a worker tells the group about the state in its data directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from millstream.state.directory import StateDirectory
from millstream.state.settings import StateSettings
from millstream.state.store import Database
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.batch import Partition
from millstream.workers.local_state import positions_on_disk
from millstream.workers.task_meta import TaskMeta

STORES = {"shop-0": ["sums", "joins"], "shop-1": ["totals"]}
IDS = {"sums": "id-1", "joins": "id-2", "totals": "id-3"}


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    shared = RocksShared(StateSettings())
    return StateDirectory(tmp_path, "shop", lambda folder: RocksDatabase(folder, shared))


def written(directory: StateDirectory, task: str, ends: dict[str, int], ids: dict[str, str] = IDS) -> None:
    database: Database = directory.open(task)
    database.write({}, TaskMeta(ends, {store: ids[store] for store in ends}, {Partition("in", 0): 5}).encoded())
    database.close()


def test_a_position_is_the_sum_over_the_stores_of_a_shard(directory: StateDirectory) -> None:
    written(directory, "shop-0/0", {"sums": 100, "joins": 20})
    written(directory, "shop-1/0", {"totals": 3})
    written(directory, "shop-0/2", {"sums": 7})
    assert positions_on_disk(directory, STORES, IDS) == {0: 123, 2: 7}


def test_what_belongs_to_another_plan_or_another_changelog_counts_nothing(directory: StateDirectory) -> None:
    written(directory, "gone-0/0", {"sums": 100})
    written(directory, "shop-1/1", {"totals": 9}, {"totals": "deleted and made anew"})
    directory.open("shop-0/3").close()
    assert positions_on_disk(directory, STORES, IDS) == {}


def test_every_database_is_closed_again(directory: StateDirectory) -> None:
    """Else the shard could not open it."""
    written(directory, "shop-0/0", {"sums": 100})
    positions_on_disk(directory, STORES, IDS)
    directory.open("shop-0/0").close()


def test_a_database_that_cannot_be_read_counts_nothing(directory: StateDirectory, tmp_path: Path) -> None:
    written(directory, "shop-0/0", {"sums": 100})
    written(directory, "shop-0/1", {"sums": 8})
    (tmp_path / "shop-0/0/rocksdb/CURRENT").write_text("nonsense")
    assert positions_on_disk(directory, STORES, IDS) == {1: 8}
