"""A database in memory that keeps the promises of the one on disk, and can crash at a chosen write.

It ships: bounded runs, the test driver and users' tests run on it. `fail_next` plays what a disk and a power cut do; after
that the same object is what a restarted process would find.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum

from ..errors import CorruptStoreError, DiskError, StateError
from ..store import Changes, KeyRange, StoreWrite


class Fault(Enum):
    """What the next write does instead of its work."""

    CRASH_BEFORE = "crash before"
    """Nothing is written; SimulatedCrashError."""
    CRASH_AFTER = "crash after"
    """All is written, and the caller never hears of it; SimulatedCrashError."""
    DISK_FULL = "disk full"
    """Nothing is written; DiskError."""
    CORRUPT = "corrupt"
    """Nothing is written; CorruptStoreError."""


class SimulatedCrashError(BaseException):
    """The process is gone at this point. Not an `Exception`: nobody may handle it but the test."""


class MemoryStore:
    """See `Store`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values: dict[bytes, bytes] = {}
        self._sorted: list[bytes] | None = []

    @property
    def name(self) -> str:
        return self._name

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._values.get(key) for key in keys]

    def scan(self, keys: KeyRange = KeyRange(b""), *, chunk_rows_max: int = 10_000) -> Iterator[Changes]:  # noqa: B008
        found = self._within(keys)
        values: list[bytes | None] = [self._values[key] for key in found]
        return (
            Changes.of(found[at : at + chunk_rows_max], values[at : at + chunk_rows_max])
            for at in range(0, len(found), chunk_rows_max)
        )

    def apply(self, write: StoreWrite) -> None:
        """For the database."""
        for keys in write.deleted:
            for key in self._within(keys):
                del self._values[key]
            self._sorted = None
        for changes in write.changes:
            for key, value in changes.pairs():
                if value is None:
                    self._values.pop(key, None)
                else:
                    self._values[key] = value
            self._sorted = None

    def _within(self, keys: KeyRange) -> list[bytes]:
        if self._sorted is None:
            self._sorted = sorted(self._values)
        stop = len(self._sorted) if keys.stop is None else bisect_left(self._sorted, keys.stop)
        return self._sorted[bisect_left(self._sorted, keys.start) : stop]


class MemoryDatabase:
    """See `Database`."""

    def __init__(self) -> None:
        self._stores: dict[str, MemoryStore] = {}
        self._names: set[str] = set()
        self._meta: dict[str, bytes] = {}
        self._fault: Fault | None = None

    def store(self, name: str) -> MemoryStore:
        self._names.add(name)
        return self._stores.setdefault(name, MemoryStore(name))

    def store_names(self) -> list[str]:
        return sorted(self._names)

    def meta(self, key: str) -> bytes | None:
        return self._meta.get(key)

    def write(self, stores: Mapping[str, StoreWrite], meta: Mapping[str, bytes | None]) -> None:
        fault, self._fault = self._fault, None
        if fault in {Fault.CRASH_BEFORE, Fault.DISK_FULL, Fault.CORRUPT}:
            raise _raised(fault)
        for name, write in stores.items():
            self.store(name).apply(write)
        for key, value in meta.items():
            if value is None:
                self._meta.pop(key, None)
            else:
                self._meta[key] = value
        if fault is not None:
            raise _raised(fault)

    def fail_next(self, fault: Fault | None) -> None:
        """The next `write` fails so; None: it does not."""
        self._fault = fault

    def clear(self) -> None:
        for store in self._stores.values():
            store.apply(StoreWrite(deleted=[KeyRange(b"")]))
        self._names.clear()
        self._meta.clear()

    def close(self) -> None:
        """Nothing to let go of: opened again it is as it was left."""


class MemoryDatabases:
    """See `Databases`: what is opened again is as it was left, so an object of this class is the disk that outlives a crash."""

    def __init__(self) -> None:
        self._tasks: dict[str, MemoryDatabase] = {}
        self._aside: dict[str, MemoryDatabase] = {}

    def open(self, task: str) -> MemoryDatabase:
        return self._tasks.setdefault(task, MemoryDatabase())

    def tasks(self) -> list[str]:
        return sorted(self._tasks)

    def set_aside(self, task: str) -> str:
        number = 1 + sum(name.startswith(f"{task}.corrupt-") for name in self._aside)
        place = f"{task}.corrupt-{number}"
        self._aside[place] = self._tasks.pop(task)
        return place

    def delete(self, task: str) -> None:
        self._tasks.pop(task, None)

    def close(self) -> None:
        """Nothing to let go of."""


def _raised(fault: Fault | None) -> StateError | SimulatedCrashError:
    if fault is Fault.DISK_FULL:
        return DiskError("memory: no space left on device (simulated)")
    if fault is Fault.CORRUPT:
        return CorruptStoreError("memory: block checksum mismatch (simulated)")
    return SimulatedCrashError(fault)
