"""How the states of a task come back: the database's entries, then the changelog since.

    task:   changelog records -> ChangelogTail.add ...      (the records are read by the shell, in chunks)
            restore(database, states, tails)

Restoring is last write wins by key, so records that are in the database already do no harm. The tail is kept as columns of
bytes until its end was read; its size is what two checkpoints are apart, bounded by `checkpoint_bytes_max` but for a lost
database, where the tail is the whole changelog: `ChangelogTail` then folds it (the newest of each key) whenever it has
doubled, so that it stays near the size of the state itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from .checkpoint import is_backed
from .store import Changes, Database, DurableState

TAIL_BYTES_MIN = 32 << 20
"""Below this a tail is not folded."""


class ChangelogTail:
    """Changes read from the changelogs of one task, by state, oldest first."""

    def __init__(self, fold_bytes: int = TAIL_BYTES_MIN) -> None:
        self._changes: dict[str, list[Changes]] = {}
        self._bytes: dict[str, int] = {}
        self._folded_at: dict[str, int] = {}
        self._fold_bytes = fold_bytes

    def add(self, state: str, changes: Changes) -> None:
        """The next records of this state's changelog."""
        self._changes.setdefault(state, []).append(changes)
        size = self._bytes[state] = self._bytes.get(state, 0) + changes.size_bytes
        if size >= 2 * self._folded_at.get(state, self._fold_bytes):
            folded = newest(self._changes[state])
            self._changes[state] = [folded]
            self._bytes[state] = folded.size_bytes
            self._folded_at[state] = max(folded.size_bytes, self._fold_bytes)

    @property
    def size_bytes(self) -> int:
        return sum(self._bytes.values())

    def of(self, state: str) -> list[Changes]:
        return self._changes.get(state, [])


def restore(database: Database, states: Mapping[str, DurableState], tails: Mapping[str, Iterable[Changes]]) -> None:
    """Each state is given what the database has and what its changelog said since, by the name of its store. States bound
    to their store are given only the latter."""
    for name, state in states.items():
        store = database.store(name)
        stored: Iterable[Changes] = store.scan()
        if is_backed(state):
            state.bind(store)
            stored = ()
        state.restore(stored, tails.get(name, ()))


def newest(changes: Iterable[Changes]) -> Changes:
    """The last write of each key, deletions included, in the order of those writes."""
    given = list(changes)
    keys = pa.concat_arrays([one.keys for one in given]) if given else pa.array([], pa.large_binary())
    values = pa.concat_arrays([one.values for one in given]) if given else keys
    rows = (
        pl.DataFrame({"key": keys}, schema={"key": pl.Binary})
        .with_row_index("row")
        .unique("key", keep="last", maintain_order=True)["row"]
        .to_arrow()
    )
    return _taken(keys, values, rows)


def _taken(keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray, rows: pa.Array[Any]) -> Changes:
    return Changes(keys.take(rows), values.take(rows))
