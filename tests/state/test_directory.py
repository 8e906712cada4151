"""The data directory: one process, one app, one format; tasks set aside and deleted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from millstream.state.directory import StateDirectory
from millstream.state.errors import DiskError, FormatError, LockedError
from millstream.state.store import Changes, Database, StoreWrite
from millstream.state.stores.memory import MemoryDatabase, MemoryDatabases
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared


def directory(path: Path, app: str = "shop") -> StateDirectory:
    shared = RocksShared()
    return StateDirectory(path, app, lambda folder: RocksDatabase(folder, shared))


def in_memory(_: Path) -> Database:
    return MemoryDatabase()


def test_a_task_is_found_again(tmp_path: Path) -> None:
    first = directory(tmp_path)
    for task in ("shop-1/10", "shop-1/2"):
        database = first.open(task)
        database.write({}, {"task": task.encode()})
        database.close()
    first.close()
    second = directory(tmp_path)
    assert second.tasks() == ["shop-1/10", "shop-1/2"]
    database = second.open("shop-1/2")
    assert database.meta("task") == b"shop-1/2"
    database.close()
    second.close()


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    """Another process is refused while we live, let in when we close."""
    script = f"""
from pathlib import Path
from millstream.state.directory import StateDirectory
from millstream.state.errors import LockedError
from millstream.state.stores.memory import MemoryDatabase
try:
    StateDirectory(Path({str(tmp_path)!r}), "shop", lambda _: MemoryDatabase())
    print("open")
except LockedError as error:
    print(error)
"""

    def another() -> str:
        return subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
        ).stdout

    held = StateDirectory(tmp_path, "shop", in_memory)
    assert f"{tmp_path}: in use by process {os.getpid()}; stop it" in another()
    held.close()
    assert another() == "open\n"


def test_a_second_opening_here_is_refused_too(tmp_path: Path) -> None:
    held = StateDirectory(tmp_path, "shop", in_memory)
    with pytest.raises(LockedError, match=str(os.getpid())):
        StateDirectory(tmp_path, "shop", in_memory)
    held.close()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('{"format": 1, "app": "other"}', "holds the state of app 'other', not of 'shop'"),
        ('{"format": 99, "app": "shop"}', "format 99, this version reads 1"),
        ("{", "not a description of ours"),
        ('{"app": "shop"}', "not a description of ours"),
        ("[]", "not a description of ours"),
    ],
)
def test_a_directory_that_is_not_ours_is_refused(tmp_path: Path, content: str, text: str) -> None:
    """And not kept locked."""
    (tmp_path / "millstream.json").write_text(content)
    for _ in range(2):
        with pytest.raises(FormatError, match=text):
            StateDirectory(tmp_path, "shop", in_memory)


def test_a_directory_that_cannot_be_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="check the directory"):
        StateDirectory(tmp_path / "file" / "state", "shop", in_memory)


def test_set_aside_keeps_the_files_and_begins_anew(tmp_path: Path) -> None:
    """Each time under a number of its own."""
    held = directory(tmp_path)
    for number in (1, 2):
        database = held.open("shop-0/3")
        assert database.meta("n") is None
        database.write({}, {"n": b"%d" % number})
        database.close()
        assert held.set_aside("shop-0/3") == str(tmp_path / "shop-0" / f"3.corrupt-{number}")
    assert held.tasks() == []
    held.close()


def test_delete_forgets_the_task(tmp_path: Path) -> None:
    held = directory(tmp_path)
    held.open("shop-0/3").close()
    (tmp_path / "shop-0" / "3.deleted").mkdir()  # left by a crash
    held.delete("shop-0/3")
    held.delete("shop-0/3")
    assert (held.tasks(), list((tmp_path / "shop-0").iterdir())) == ([], [])
    held.close()


@pytest.mark.parametrize("task", ["", "shop", "shop/x", "../x/1", "shop/1/2", "a/../1", "/1"])
def test_a_task_cannot_leave_the_directory(tmp_path: Path, task: str) -> None:
    held = StateDirectory(tmp_path, "shop", in_memory)
    with pytest.raises(ValueError, match="expected <sub-topology>/<partition>"):
        held.open(task)
    held.close()


def test_memory_keeps_the_same_promises() -> None:
    disk = MemoryDatabases()
    disk.open("shop-0/3").write({"a": StoreWrite([Changes.of([b"k"], [b"v"])])}, {})
    assert (disk.open("shop-0/3").store("a").get(b"k"), disk.tasks()) == (b"v", ["shop-0/3"])
    assert disk.set_aside("shop-0/3") == "shop-0/3.corrupt-1"
    disk.open("shop-0/3")
    assert disk.set_aside("shop-0/3") == "shop-0/3.corrupt-2"
    disk.open("shop-0/4")
    disk.delete("shop-0/4")
    disk.delete("shop-0/4")
    assert disk.tasks() == []
