"""Ordered bytes by key, and how a write is told.

    operator --take_changes-->    Changes  -> a changelog record a key, at every commit
             --take_checkpoint--> Changes  -> Database.write, at a checkpoint (every 10 s or 64 MiB)

The changelog is the truth; a database is where a restart need not begin from nothing. Between two checkpoints committed
state lives in the operators' own structures; what opened and closed in between never touches the disk. A database is only
ever given committed state, in one atomic write together with the changelog positions it stands for, so a crash at any
moment leaves a state that the changelog's tail completes.

This layer never hears of Kafka. One `Database` a task; one `Store` (a column family) a state. The contract suite is
`tests/contracts/test_store.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Changes:
    """Writes as two columns of one length. Of several writes of one key the last counts."""

    keys: pa.LargeBinaryArray
    values: pa.LargeBinaryArray
    """Null: the key is deleted."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def size_bytes(self) -> int:
        return int(self.keys.nbytes + self.values.nbytes)

    def pairs(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Key and value, one by one, as Python objects."""
        keys = cast("list[bytes]", self.keys.to_pylist())
        return zip(keys, self.values.to_pylist(), strict=True)

    @classmethod
    def of(cls, keys: Sequence[bytes], values: Sequence[bytes | None]) -> Changes:
        return cls(pa.array(keys, pa.large_binary()), pa.array(values, pa.large_binary()))


@dataclass(frozen=True, slots=True)
class KeyRange:
    """All keys with `start <= key < stop`; `stop=None`: to the end."""

    start: bytes
    stop: bytes | None = None


@dataclass(frozen=True, slots=True)
class StoreWrite:
    """What one atomic write does to one store: first the ranges are deleted, then the changes are made, in order."""

    changes: Sequence[Changes] = ()
    deleted: Sequence[KeyRange] = field(default=())


class Store(Protocol):
    """A named, ordered map of bytes. Written only through its database."""

    @property
    def name(self) -> str: ...

    def get(self, key: bytes) -> bytes | None: ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """In the order of `keys`; sorted keys are read faster."""
        ...

    def scan(self, keys: KeyRange = KeyRange(b""), *, chunk_rows_max: int = 10_000) -> Iterator[Changes]:
        """The entries in ascending key order, in chunks. What is written meanwhile is not seen."""
        ...


class Database(Protocol):
    """The stores of one task, written together."""

    def store(self, name: str) -> Store:
        """Created where it does not exist."""
        ...

    def store_names(self) -> list[str]: ...

    def meta(self, key: str) -> bytes | None: ...

    def write(self, stores: Mapping[str, StoreWrite], meta: Mapping[str, bytes | None]) -> None:
        """All or nothing, durable when it returns. Raises DiskError, CorruptStoreError."""
        ...

    def clear(self) -> None:
        """Forget everything: all stores, all meta."""
        ...

    def close(self) -> None: ...


class DurableState(Protocol):
    """What an operator keeps between batches, and how it comes back. `workers/task.py` drives it.

    The order of calls: `restore` once; then any work of the operator; `take_changes` before every commit;
    `take_checkpoint` after some commits, with nothing uncommitted in the state. After an aborted commit the object is thrown
    away and a new one is restored.
    """

    @property
    def name(self) -> str: ...

    def restore(self, stored: Iterable[Changes], tail: Iterable[Changes]) -> None:
        """`stored`: the database's entries in key order. `tail`: changes since, oldest first; a later one of a key wins.

        What came from the tail is not in the database yet: the next `take_checkpoint` gives it (or what became of it).
        """
        ...

    def take_changes(self) -> list[Changes]:
        """Net changes since the last call, for the changelog."""
        ...

    def take_checkpoint(self) -> StoreWrite:
        """Net changes since the last checkpoint, for the database."""
        ...


class StoreBacked(DurableState, Protocol):
    """A state that reads through to its store instead of holding everything in memory (`state/key_value.py`).

    The task calls `bind` before `restore`, whose `stored` is then empty. Between checkpoints the store lags behind: the
    state answers from what it has not given to a checkpoint yet, then from the store.
    """

    def bind(self, store: Store) -> None: ...

    def checkpoint_written(self) -> None:
        """The write that `take_checkpoint` was asked for is in the store: what was held for it can go."""
        ...

    @property
    def size_bytes(self) -> int:
        """Memory of what the store does not have yet: a reason to make a checkpoint early."""
        ...


class Databases(Protocol):
    """The databases of one process by task, `<sub-topology>/<partition>`: on disk `state/directory.py`, else `MemoryDatabases`."""

    def open(self, task: str) -> Database:
        """Raises LockedError, FormatError, CorruptStoreError (then `set_aside`, and open again), DiskError."""
        ...

    def tasks(self) -> list[str]:
        """Those with state here, sorted."""
        ...

    def set_aside(self, task: str) -> str:
        """Out of the way, kept for who wants to look; says where. The database must be closed or never have opened."""
        ...

    def delete(self, task: str) -> None:
        """The database must be closed."""
        ...

    def close(self) -> None:
        """Lets another process in."""
        ...
