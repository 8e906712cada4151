"""A task's database on disk: one RocksDB, a column family a store, written by checkpoints only.

    <task>/rocksdb/    RocksDB's own files; the default column family holds the meta entries
    <task>/journal/    a large write that is being applied (`journal.py`)

How a write is all or nothing although `Rdict.write` holds the GIL for 2 us a key: a write of up to `BATCH_KEYS_MAX` keys
is one WriteBatch, which RocksDB makes atomic over column families. A larger one goes to the journal first, then to RocksDB
in such batches, the meta entries in the last. The write-ahead log stays on; it is synced once a write, by `flush_wal`,
which lets other threads run (a synced `write` does not). Why so: docs/decisions/0008-checkpoints-in-batches.md

Where RocksDB refuses a write that the journal took (the disk filled up just then), the database is closed: whoever opens it
next applies the write first thing. Nobody ever sees the half of it.

What it does not do: hold uncommitted state, serve two threads at once, transactions, merge operators, compaction filters.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

import rocksdict

from ..errors import CorruptStoreError, DiskError, LockedError, StateError
from ..settings import StateSettings
from ..store import Changes, KeyRange, StoreWrite
from .journal import Journal

BATCH_KEYS_MAX = 10_000
"""Keys of one WriteBatch: other threads (heartbeats among them) wait 20 ms for it."""

BATCH_BYTES_MAX = 8 << 20
SCAN_BYTES_MAX = 16 << 20
"""A chunk of a scan ends here even if it has few rows: join blocks are large values."""

_PREFIX = "store:"
_META = "default"


class RocksShared:
    """What all databases of one process share: the block cache and the budget of memtables. Made once, passed in."""

    def __init__(self, settings: StateSettings = StateSettings()) -> None:  # noqa: B008  (a frozen value)
        self.settings = settings
        self._cache = rocksdict.Cache(settings.block_cache_bytes)
        self._buffers = rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(
            settings.write_buffers_bytes, False, self._cache
        )

    @property
    def cache_used_bytes(self) -> int:
        return int(self._cache.get_usage())

    @property
    def buffers_used_bytes(self) -> int:
        return int(self._buffers.get_usage())

    def options(self) -> rocksdict.Options:
        """Of a database and of each of its column families; sources: RocksDB's wiki, "Setup Options and Basic Tuning"."""
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_block_size(16 << 10)
        table.set_bloom_filter(10, False)
        table.set_cache_index_and_filter_blocks(True)
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_block_based_table_factory(table)
        options.set_write_buffer_manager(self._buffers)
        options.set_write_buffer_size(self.settings.store_write_buffer_bytes)
        options.set_max_total_wal_size(4 * self.settings.store_write_buffer_bytes)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_max_background_jobs(2)
        options.set_max_open_files(self.settings.open_files_max)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(1 << 20)
        options.set_stats_dump_period_sec(0)
        return options


class RocksStore:
    """One column family. See `Store`."""

    def __init__(self, database: RocksDatabase, name: str) -> None:
        self._database = database
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def get(self, key: bytes) -> bytes | None:
        with self._database.translated():
            value: bytes | None = self._family.get(key)
            return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        order = sorted(range(len(keys)), key=keys.__getitem__)
        with self._database.translated():
            found: list[bytes | None] = self._family.get([keys[i] for i in order]) or []
        values: list[bytes | None] = [None] * len(keys)
        for i, value in zip(order, found, strict=True):
            values[i] = value
        return values

    def scan(self, keys: KeyRange = KeyRange(b""), *, chunk_rows_max: int = 10_000) -> Iterator[Changes]:  # noqa: B008
        """RocksDB's iterator reads the state as of this call, not as of the first chunk."""
        options = rocksdict.ReadOptions()
        if keys.stop is not None:
            options.set_iterate_upper_bound(keys.stop)
        with self._database.translated():
            cursor = self._family.iter(options)
            cursor.seek(keys.start)
        return self._database.opened(_Scan(self._database, cursor, keys.stop, chunk_rows_max))

    @property
    def _family(self) -> rocksdict.Rdict:
        return self._database.family(self._name)


class _Scan:
    """Chunks of a scan. A cursor keeps RocksDB open whatever else is closed, so the database ends those that are left.

    `stop` is held for as long as the cursor: of its upper bound RocksDB knows the address only, and neither the cursor nor its
    read options hold the object (rocksdict 0.3.29). Let go of, the scan would end at whatever key comes to stand there.
    """

    def __init__(self, database: RocksDatabase, cursor: rocksdict.RdictIter, stop: bytes | None, rows_max: int) -> None:
        self._database = database
        self._stop = stop
        self._cursor: rocksdict.RdictIter | None = cursor
        self._rows_max = rows_max

    def __iter__(self) -> Iterator[Changes]:
        return self

    def __next__(self) -> Changes:
        cursor = self._cursor
        if cursor is None:
            raise StateError("the database was closed while a scan of it was under way")
        keys: list[bytes] = []
        values: list[bytes | None] = []
        size = 0
        with self._database.translated():
            while cursor.valid() and len(keys) < self._rows_max and size < SCAN_BYTES_MAX:
                keys.append(cursor.key())
                values.append(cursor.value())
                size += len(values[-1] or b"")
                cursor.next()
            if not keys:
                cursor.status()  # raises what ended it early
        if not keys:
            raise StopIteration
        return Changes.of(keys, values)

    def end(self) -> None:
        self._cursor = None


class RocksDatabase:
    """See `Database`. Opens what is in the folder, or makes it; applies a pending journal first.

    Raises LockedError when a process (this one too) has it open, CorruptStoreError, DiskError.
    """

    def __init__(self, folder: Path, shared: RocksShared) -> None:
        self._folder = folder
        self._shared = shared
        self._files = folder / "rocksdb"
        self._scans: WeakSet[_Scan] = WeakSet()
        self._open()

    def _open(self) -> None:
        with self.translated():
            self._journal = Journal(self._folder / "journal")
            if self._cleared.exists():
                self._journal.done()
                shutil.rmtree(self._cleared)
            options = self._shared.options()
            known = rocksdict.Rdict.list_cf(str(self._files), options) if (self._files / "CURRENT").exists() else []
            names = [name for name in known if name != _META]
            families = {name: self._shared.options() for name in names}
            self._db = rocksdict.Rdict(str(self._files), options, families)
            self._families = {name.removeprefix(_PREFIX): self._db.get_column_family(name) for name in names}
        if pending := self._journal.pending():
            self._apply(*pending)
            self._journal.done()

    @property
    def _cleared(self) -> Path:
        return self._folder / "rocksdb.cleared"

    def store(self, name: str) -> RocksStore:
        if name not in self._families:
            with self.translated():
                self._families[name] = self._db.create_column_family(_PREFIX + name, self._shared.options())
        return RocksStore(self, name)

    def store_names(self) -> list[str]:
        return sorted(self._families)

    def family(self, name: str) -> rocksdict.Rdict:
        """For the stores of this module. After `clear` a store is there again, empty."""
        if name not in self._families:
            self.store(name)
        return self._families[name]

    def meta(self, key: str) -> bytes | None:
        with self.translated():
            value: bytes | None = self._db.get(key.encode())
            return value

    def write(self, stores: Mapping[str, StoreWrite], meta: Mapping[str, bytes | None]) -> None:
        if not _is_large(stores):
            self._apply(stores, meta)
            return
        with self.translated():
            self._journal.put(stores, meta)
        try:
            self._apply(stores, meta)
        except StateError:
            self.close()  # nobody may read the half of it; the next opening applies it
            raise
        with self.translated():
            self._journal.done()

    def clear(self) -> None:
        """The files are moved away in one step; whoever opens the folder next (we do) finishes what is left of it."""
        self.close()
        with self.translated():
            self._files.rename(self._cleared)
        self._open()

    def opened(self, scan: _Scan) -> _Scan:
        """For the stores of this module: remembered until it is let go of."""
        self._scans.add(scan)
        return scan

    def close(self) -> None:
        for scan in list(self._scans):
            scan.end()
        for family in self._families.values():
            family.close()
        self._families = {}
        self._db.close()

    def _apply(self, stores: Mapping[str, StoreWrite], meta: Mapping[str, bytes | None]) -> None:
        with self.translated():
            batches = _Batches(self._db)
            for name, write in stores.items():
                family = self.family(name)
                handle = self._db.get_column_family_handle(_PREFIX + name)
                for keys in write.deleted:
                    batches.delete_range(keys.start, _end(family) if keys.stop is None else keys.stop, handle)
                for changes in write.changes:
                    batches.change(changes, handle)
            names = Changes.of([name.encode() for name in meta], list(meta.values()))
            batches.change(names, self._db.get_column_family_handle(_META), whole=True)
            batches.write()
            self._db.flush_wal(True)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """RocksDB's errors are texts; here, and only here, they become ours."""
        try:
            yield
        except StateError:
            raise
        except OSError as error:
            raise DiskError(f"{self._folder}: {error}") from error
        except rocksdict.DbClosedError as error:
            raise StateError(f"{self._folder}: the database is closed") from error
        except Exception as error:
            if type(error) is not Exception:  # rocksdict raises plain Exceptions with RocksDB's text
                raise
            raise _translated(self._folder, str(error)) from error


class _Batches:
    """WriteBatches of bounded size, in order."""

    def __init__(self, db: rocksdict.Rdict) -> None:
        self._db = db
        self._batch = rocksdict.WriteBatch(raw_mode=True)
        self._bytes = 0

    def delete_range(self, start: bytes, stop: bytes, handle: rocksdict.ColumnFamily) -> None:
        if start < stop:
            self._batch.delete_range(start, stop, handle)

    def change(self, changes: Changes, handle: rocksdict.ColumnFamily, *, whole: bool = False) -> None:
        """`whole`: into one batch, whatever its size."""
        for at in range(0, len(changes), BATCH_KEYS_MAX):
            part = Changes(changes.keys.slice(at, BATCH_KEYS_MAX), changes.values.slice(at, BATCH_KEYS_MAX))
            for key, value in part.pairs():
                if value is None:
                    self._batch.delete(key, handle)
                else:
                    self._batch.put(key, value, handle)
                    self._bytes += len(value)
                if not whole and (self._bytes >= BATCH_BYTES_MAX or len(self._batch) >= BATCH_KEYS_MAX):
                    self.write()

    def write(self) -> None:
        self._db.write(self._batch)
        self._batch = rocksdict.WriteBatch(raw_mode=True)
        self._bytes = 0


def _is_large(stores: Mapping[str, StoreWrite]) -> bool:
    """Whether it may take more than one batch."""
    rows = sum(len(write.deleted) + sum(map(len, write.changes)) for write in stores.values())
    size = sum(changes.size_bytes for write in stores.values() for changes in write.changes)
    return rows >= BATCH_KEYS_MAX or size >= BATCH_BYTES_MAX


def _end(family: rocksdict.Rdict) -> bytes:
    """The smallest key above all there are."""
    cursor = family.iter()
    cursor.seek_to_last()
    return bytes(cursor.key()) + b"\0" if cursor.valid() else b""


def _translated(folder: Path, text: str) -> StateError:
    said = f"{folder}: {text}"
    if "While lock file" in text or "lock hold by current process" in text:
        return LockedError(f"{said}; stop the other process, or give this one another directory")
    if text.startswith("IO error") and "No such file" not in text:
        return DiskError(f"{said}; free space or mend the disk, then start again: nothing is half written")
    return CorruptStoreError(f"{said}; move the store aside, it is restored from its changelog")
