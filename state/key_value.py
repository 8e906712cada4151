"""A map of bytes for operators that keep one value a key: chunk hashes of a document, keys seen, an embedding cache.

    get: uncommitted and not yet checkpointed writes (in memory) -> the store (on disk)

Nothing but the writes since the last checkpoint is in memory, however large the map is. `size_bytes` tells how much that
is, so that a checkpoint can be made early. Without a store (bounded runs, tests, state that is thrown away) the overlay is
the whole map.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from .keys import prefix_stop
from .store import Changes, KeyRange, Store, StoreWrite

ENTRY_BYTES = 120
"""What an entry of the overlay takes beside its bytes: two objects and a slot of a dict."""


class KeyValueState:
    """A `StoreBacked` state. Keys and values are bytes; see `state/keys.py` for keys that sort."""

    def __init__(self, name: str, store: Store | None = None) -> None:
        self._name = name
        self._store = store
        self._overlay: dict[bytes, bytes | None] = {}
        """Writes since the last checkpoint; None: deleted."""
        self._uncommitted: dict[bytes, None] = {}
        """Keys written since the last `take_changes`, in order."""
        self._given: dict[bytes, bytes | None] = {}
        """What the checkpoint under way was given."""
        self._size_bytes = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def bind(self, store: Store) -> None:
        self._store = store

    # What operators do

    def get(self, key: bytes) -> bytes | None:
        if key in self._overlay:
            return self._overlay[key]
        return self._store.get(key) if self._store is not None else None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """In the order of `keys`: one look at the store for all that are not in memory."""
        if self._store is None:
            return [self._overlay.get(key) for key in keys]
        asked = [key for key in keys if key not in self._overlay]
        stored = dict(zip(asked, self._store.get_many(asked), strict=True))
        return [self._overlay[key] if key in self._overlay else stored[key] for key in keys]

    def put(self, key: bytes, value: bytes) -> None:
        self._set(key, value)
        self._uncommitted[key] = None

    def delete(self, key: bytes) -> None:
        """Also of keys that are not there."""
        self._set(key, None)
        self._uncommitted[key] = None

    def scan_prefix(self, prefix: bytes = b"", *, chunk_rows_max: int = 10_000) -> Iterator[tuple[bytes, bytes]]:
        """Entries whose keys begin so, ascending, as of this call: writes made meanwhile are not seen."""
        keys = KeyRange(prefix, prefix_stop(prefix))
        written = sorted(item for item in self._overlay.items() if item[0].startswith(prefix))
        chunks = iter(()) if self._store is None else self._store.scan(keys, chunk_rows_max=chunk_rows_max)
        return _overlaid(chunks, [key for key, _ in written], [value for _, value in written])

    # What the task does

    def restore(self, stored: Iterable[Changes], tail: Iterable[Changes]) -> None:
        """`stored` is empty where a store is bound; without one it is held in memory."""
        for changes in (*stored, *tail):
            for key, value in changes.pairs():
                self._set(key, value)

    def take_changes(self) -> list[Changes]:
        if not self._uncommitted:
            return []
        keys = list(self._uncommitted)
        self._uncommitted = {}
        return [Changes.of(keys, [self._overlay[key] for key in keys])]

    def take_checkpoint(self) -> StoreWrite:
        """What is given stays readable here until `checkpoint_written` (or the next call, which implies it).

        Without a store all there is is given every time.
        """
        self.checkpoint_written()
        given = self._overlay.copy()
        if self._store is not None:
            self._given = given
        return StoreWrite([Changes.of(list(given), list(given.values()))] if given else ())

    def checkpoint_written(self) -> None:
        for key, value in self._given.items():
            if self._overlay.get(key, key) is value and key not in self._uncommitted:
                self._drop(key)
        self._given = {}

    def _set(self, key: bytes, value: bytes | None) -> None:
        self._drop(key)
        self._overlay[key] = value
        self._size_bytes += _entry_bytes(key, value)

    def _drop(self, key: bytes) -> None:
        if key in self._overlay:
            self._size_bytes -= _entry_bytes(key, self._overlay.pop(key))


def _entry_bytes(key: bytes, value: bytes | None) -> int:
    return ENTRY_BYTES + len(key) + len(value or b"")


def _overlaid(
    chunks: Iterator[Changes], keys: list[bytes], values: list[bytes | None]
) -> Iterator[tuple[bytes, bytes]]:
    """A merge of two ascending sequences in which the second one (`keys`, `values`) wins."""
    at = 0
    for chunk in chunks:
        for key, value in chunk.pairs():
            stop = bisect_left(keys, key, at)
            yield from _living(keys, values, at, stop)
            at = stop
            if value is not None and (at == len(keys) or keys[at] != key):
                yield key, value
    yield from _living(keys, values, at, len(keys))


def _living(keys: list[bytes], values: list[bytes | None], at: int, stop: int) -> Iterator[tuple[bytes, bytes]]:
    for key, value in zip(keys[at:stop], values[at:stop], strict=True):
        if value is not None:
            yield key, value
