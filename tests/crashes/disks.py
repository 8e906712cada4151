"""Disks of the crash tests: what was written before the crash is there after it, and nothing that was not.

In memory, or RocksDB's own files: those are copied at the moment of the crash, before anything of the process is closed, and
the next process goes on from the copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from millstream.state.directory import StateDirectory
from millstream.state.store import Database, Databases, Store, StoreWrite
from millstream.state.stores.memory import MemoryDatabases
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.memory.faults import When


class Told(Protocol):
    """Who hears of every use of the disk; a process."""

    def reached(self, what: str, when: When) -> None: ...


class Disk(Protocol):
    """One machine's."""

    def opened_by(self, process: Told) -> Databases: ...

    def crash(self) -> None:
        """The process that works here is gone."""
        ...


class MemoryDisk:
    """Databases in memory; an object of them outlives the process."""

    def __init__(self) -> None:
        self._databases = MemoryDatabases()

    def opened_by(self, process: Told) -> Databases:
        return GuardedDatabases(self._databases, process)

    def crash(self) -> None:
        """Written is written: nothing in memory is ever half done."""

    def entries(self) -> Iterator[tuple[str, str, dict[bytes, bytes | None]]]:
        """By task and store."""
        for task in self._databases.tasks():
            database = self._databases.open(task)
            for store in database.store_names():
                yield task, store, dict(pair for chunk in database.store(store).scan() for pair in chunk.pairs())


class RocksDisk:
    """A folder with a real state directory, another one after each crash."""

    def __init__(self, path: Path, app: str) -> None:
        self._path = path
        self._app = app
        self._crashes = 0
        self._shared = RocksShared()

    def opened_by(self, process: Told) -> Databases:
        inner = StateDirectory(self._folder, self._app, lambda folder: RocksDatabase(folder, self._shared))
        return GuardedDatabases(inner, process)

    def crash(self) -> None:
        old = self._folder
        self._crashes += 1
        shutil.copytree(old, self._folder)

    @property
    def _folder(self) -> Path:
        return self._path / str(self._crashes)


class GuardedDatabases:
    """A process's databases: told of opening and writing, and writing nothing once the process is gone."""

    def __init__(self, inner: Databases, process: Told) -> None:
        self._inner = inner
        self._process = process

    def open(self, task: str) -> Database:
        self._process.reached(f"opening {task}", "before")
        database = self._inner.open(task)
        self._process.reached(f"opening {task}", "after")
        return GuardedDatabase(database, task, self._process)

    def tasks(self) -> list[str]:
        return self._inner.tasks()

    def set_aside(self, task: str) -> str:
        self._process.reached(f"setting aside {task}", "before")
        return self._inner.set_aside(task)

    def delete(self, task: str) -> None:
        self._process.reached(f"deleting {task}", "before")
        self._inner.delete(task)

    def close(self) -> None:
        self._inner.close()


class GuardedDatabase:
    """One of them."""

    def __init__(self, inner: Database, task: str, process: Told) -> None:
        self._inner = inner
        self._task = task
        self._process = process

    def store(self, name: str) -> Store:
        return self._inner.store(name)

    def store_names(self) -> list[str]:
        return self._inner.store_names()

    def meta(self, key: str) -> bytes | None:
        return self._inner.meta(key)

    def write(self, stores: Mapping[str, StoreWrite], meta: Mapping[str, bytes | None]) -> None:
        self._process.reached(f"writing {self._task}", "before")
        self._inner.write(stores, meta)
        self._process.reached(f"writing {self._task}", "after")

    def clear(self) -> None:
        self._process.reached(f"clearing {self._task}", "before")
        self._inner.clear()

    def close(self) -> None:
        self._inner.close()
