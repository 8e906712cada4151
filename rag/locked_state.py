"""A `KeyValueState` that calls may read in the event loop while its task works in another thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ..state.key_value import KeyValueState
from ..state.store import Changes, Store, StoreWrite


class LockedState(KeyValueState):
    """One lock around every access. Reading and writing single entries only: a scan outlives its lock."""

    def __init__(self, name: str, store: Store | None = None) -> None:
        super().__init__(name, store)
        self._lock = threading.RLock()

    def get(self, key: bytes) -> bytes | None:
        with self._lock:
            return super().get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            return super().get_many(keys)

    def put(self, key: bytes, value: bytes) -> None:
        with self._lock:
            super().put(key, value)

    def delete(self, key: bytes) -> None:
        with self._lock:
            super().delete(key)

    def take_changes(self) -> list[Changes]:
        with self._lock:
            return super().take_changes()

    def take_checkpoint(self) -> StoreWrite:
        with self._lock:
            return super().take_checkpoint()

    def checkpoint_written(self) -> None:
        with self._lock:
            super().checkpoint_written()
