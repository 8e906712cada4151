"""RocksDB only: crashes in the middle of a write, damaged files, a full disk, two owners."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import rocksdict

from millstream.state.errors import CorruptStoreError, DiskError, LockedError, StateError
from millstream.state.settings import StateSettings
from millstream.state.store import Changes, KeyRange, StoreWrite
from millstream.state.stores import rocksdb
from millstream.state.stores.rocksdb import BATCH_KEYS_MAX, RocksDatabase, RocksShared

MIB = 1 << 20
SMALL = StateSettings(block_cache_bytes=4 * MIB, write_buffers_bytes=2 * MIB, store_write_buffer_bytes=MIB)
KEYS = [b"%06d" % number for number in range(3 * BATCH_KEYS_MAX)]


def all_keys(value: bytes) -> StoreWrite:
    """A write of several batches that begins by deleting everything."""
    return StoreWrite([Changes.of(KEYS, [value] * len(KEYS))], [KeyRange(b"")])


def opened(folder: Path) -> RocksDatabase:
    return RocksDatabase(folder, RocksShared(SMALL))


def values(database: RocksDatabase) -> set[bytes | None]:
    return {value for name in "ab" for value in database.store(name).get_many(KEYS)}


class Killed(BaseException):
    """The process ends here."""


def kill_at(monkeypatch: pytest.MonkeyPatch, database: RocksDatabase, step: int) -> list[str]:
    """Everything the database does to the disk is counted; before number `step` the process is gone."""
    done: list[str] = []

    def counted(name: str, work):
        def call(*arguments):
            done.append(name)
            if len(done) > step:
                raise Killed(name)
            return work(*arguments)

        return call

    class Counting:
        def __init__(self, db: rocksdict.Rdict) -> None:
            self.write = counted("write", db.write)
            self.flush_wal = counted("sync", db.flush_wal)
            self.get_column_family_handle = db.get_column_family_handle
            self.close = db.close
            self.get = db.get

    monkeypatch.setattr(database, "_db", Counting(database._db))
    monkeypatch.setattr(database._journal, "put", counted("journal", database._journal.put))
    monkeypatch.setattr(database._journal, "done", counted("done", database._journal.done))
    return done


def test_a_crash_anywhere_in_a_large_write_leaves_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step by step: nothing until the journal is on disk, all from then on; meta goes with it."""
    seen = []
    for step in range(12):
        database = opened(tmp_path / str(step))
        database.write({"a": all_keys(b"old"), "b": all_keys(b"old")}, {"input": b"old"})
        with monkeypatch.context() as patch:
            done = kill_at(patch, database, step)
            try:
                database.write({"a": all_keys(b"new"), "b": all_keys(b"new")}, {"input": b"new"})
            except Killed:
                seen.append(done[-1])
            database.close()
        after = opened(tmp_path / str(step))
        state = b"old" if step == 0 else b"new"
        assert (values(after), after.meta("input")) == ({state}, state), step
        after.close()
    assert seen == ["journal", *["write"] * 7, "sync", "done"]


def test_a_journal_cut_short_was_never_promised(tmp_path: Path) -> None:
    """Only a whole file gets its final name."""
    opened(tmp_path).close()
    part = tmp_path / "journal" / "write.arrow.tmp"
    part.write_bytes(b"ARROW1")
    opened(tmp_path).close()
    assert not part.exists()


def test_a_damaged_journal_is_a_corrupt_store(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "journal" / "write.arrow").write_bytes(b"ARROW1 and then nothing of ours")
    with pytest.raises(CorruptStoreError, match=r"write\.arrow: not a journal"):
        opened(tmp_path)


def test_a_killed_process_loses_nothing_that_write_returned_for(tmp_path: Path) -> None:
    """No close, no flush: the process ends with `os._exit` right after the write."""
    script = f"""
import os
from pathlib import Path
from millstream.state.store import Changes, StoreWrite
from millstream.state.stores import rocksdb
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
database = RocksDatabase(Path({str(tmp_path)!r}), RocksShared())
database.write({{"a": StoreWrite([Changes.of([b"k"], [b"v"])])}}, {{"input": b"7"}})
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 9
    database = opened(tmp_path)
    assert (database.store("a").get(b"k"), database.meta("input")) == (b"v", b"7")
    database.close()


@pytest.mark.parametrize(("victim", "first_bytes"), [("*.sst", 64), ("MANIFEST-*", 40), ("CURRENT", 16)])
def test_damaged_files_are_a_corrupt_store(tmp_path: Path, victim: str, first_bytes: int) -> None:
    """At the opening or at the first read, whichever finds it; the text says what to do."""
    database = opened(tmp_path)
    database.write({"a": all_keys(b"v" * 20)}, {"input": b"1"})
    database.family("a").flush()
    database.close()
    for file in (tmp_path / "rocksdb").glob(victim):
        file.write_bytes(b"\x5a" * first_bytes + file.read_bytes()[first_bytes : file.stat().st_size // 2])
    with pytest.raises(CorruptStoreError, match="restored from its changelog"):
        values(opened(tmp_path))


def test_a_missing_table_file_is_a_corrupt_store(tmp_path: Path) -> None:
    database = opened(tmp_path)
    database.write({"a": all_keys(b"v")}, {})
    database.family("a").flush()
    database.close()
    for file in (tmp_path / "rocksdb").glob("*.sst"):
        file.unlink()
    with pytest.raises(CorruptStoreError):
        values(opened(tmp_path))


@pytest.mark.parametrize("rows", [1, BATCH_KEYS_MAX])
def test_a_full_disk_is_a_disk_error_and_nothing_is_half_written(tmp_path: Path, rows: int) -> None:
    """A limit on the size of files stands in for the full disk; small writes and journaled ones. Afterwards all old, or all new."""
    script = f"""
import resource
from pathlib import Path
from millstream.state.errors import DiskError
from millstream.state.store import Changes, StoreWrite
from millstream.state.stores import rocksdb
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
database = RocksDatabase(Path({str(tmp_path)!r}), RocksShared())
keys = [b"%06d" % n for n in range({rows})]
write = lambda value: database.write({{"a": StoreWrite([Changes.of(keys, [value] * len(keys))])}}, {{"input": value[:3]}})
write(b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write(b"new" * (100_000 // len(keys)))
except DiskError as error:
    print("DiskError", error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.startswith(f"DiskError {tmp_path}"), done
    database = opened(tmp_path)
    found = {(value or b"")[:3] for value in database.store("a").get_many([b"%06d" % n for n in range(rows)])}
    assert found == {database.meta("input")}
    database.close()


def test_a_journal_that_does_not_fit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = opened(tmp_path)
    database.write({"a": all_keys(b"old"), "b": all_keys(b"old")}, {})

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(DiskError, match="No space left on device"):
            database.write({"a": all_keys(b"new"), "b": all_keys(b"new")}, {})
    assert (values(database), list((tmp_path / "journal").iterdir())) == ({b"old"}, [])
    database.write({"a": all_keys(b"new"), "b": all_keys(b"new")}, {})
    assert values(database) == {b"new"}
    database.close()


def test_a_disk_that_fills_up_half_way_shows_nobody_the_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal took the write, RocksDB the first batches of it: closed, and whole when it is opened again."""
    database = opened(tmp_path)
    database.write({"a": all_keys(b"old"), "b": all_keys(b"old")}, {"input": b"old"})
    written = rocksdb._Batches.write
    calls: list[int] = []

    def full(batches: rocksdb._Batches) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Exception("IO error: No space left on device: While appending to file")
        written(batches)

    with monkeypatch.context() as patch:
        patch.setattr(rocksdb._Batches, "write", full)
        with pytest.raises(DiskError, match="No space left on device"):
            database.write({"a": all_keys(b"new"), "b": all_keys(b"new")}, {"input": b"new"})
    with pytest.raises(StateError, match="the database is closed"):
        database.meta("input")
    database = opened(tmp_path)
    assert (values(database), database.meta("input")) == ({b"new"}, b"new")
    database.close()


def test_a_database_has_one_owner(tmp_path: Path) -> None:
    database = opened(tmp_path)
    with pytest.raises(LockedError, match="stop the other process"):
        opened(tmp_path)
    database.close()
    opened(tmp_path).close()


def test_a_crash_while_clearing_leaves_nothing(tmp_path: Path) -> None:
    """The files were moved away, a journal was pending, the process ended: empty, and the remains are removed."""
    database = opened(tmp_path)
    database.write({"a": all_keys(b"old")}, {"input": b"1"})
    database._journal.put({"a": all_keys(b"new")}, {"input": b"2"})
    database.close()
    (tmp_path / "rocksdb").rename(tmp_path / "rocksdb.cleared")
    database = opened(tmp_path)
    assert (database.store_names(), database.meta("input")) == ([], None)
    assert not (tmp_path / "rocksdb.cleared").exists()
    database.close()


def test_a_scan_under_way_does_not_keep_the_database_open(tmp_path: Path) -> None:
    """A restore that failed half way may still hold one; the database can be opened again at once."""
    database = opened(tmp_path)
    database.write({"a": all_keys(b"v")}, {})
    chunks = database.store("a").scan()
    next(chunks)
    database.close()
    again = opened(tmp_path)
    with pytest.raises(StateError, match="closed while a scan"):
        next(chunks)
    again.close()


def test_it_may_go_from_thread_to_thread(tmp_path: Path) -> None:
    """One at a time: a task's work runs in whichever thread of the pool is free."""
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        database = first.submit(opened, tmp_path).result()
        second.submit(database.write, {"a": all_keys(b"v")}, {}).result()
        chunks = first.submit(database.store("a").scan).result()
        sizes = [len(pool.submit(next, chunks, ()).result()) for pool in (second, first, second, first)]
        second.submit(database.close).result()
    assert sizes == [BATCH_KEYS_MAX] * 3 + [0]


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    database = opened(tmp_path)
    database.close()
    with pytest.raises(StateError, match="the database is closed"):
        database.meta("input")


def test_databases_share_their_caches(tmp_path: Path) -> None:
    shared = RocksShared(SMALL)
    first, second = RocksDatabase(tmp_path / "1", shared), RocksDatabase(tmp_path / "2", shared)
    before = shared.buffers_used_bytes
    for database in (first, second):
        database.write({"a": StoreWrite([Changes.of([b"k"], [b"v" * 100_000])])}, {})
    assert shared.buffers_used_bytes >= before + 200_000
    first.close()
    second.close()
