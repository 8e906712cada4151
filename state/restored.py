"""What a restore has read of a state that is larger than memory, until it is made into rows some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from .spill import ScratchValues

WATERMARK: Final = b"W"
"""The key of an entry that is always in memory."""


class Restored:
    """Entries by key; beyond a limit values wait on disk."""

    def __init__(self) -> None:
        self.memory: dict[bytes, bytes] = {}
        self._on_disk: dict[bytes, slice] = {}
        self._folder: Path | None = None
        self._values: ScratchValues | None = None
        self._left_bytes = 0

    def spill_to(self, folder: Path, bytes_max: int) -> None:
        self._folder, self._left_bytes = folder, bytes_max

    def put(self, key: bytes, value: bytes) -> None:
        self._left_bytes -= len(value)
        if self._folder is None or self._left_bytes >= 0 or key == WATERMARK:
            self.memory[key] = value
            return
        if self._values is None:
            self._values = ScratchValues(self._folder)
        self._on_disk[key] = self._values.put(value)

    def get(self, key: bytes) -> bytes:
        if self._values is not None and key in self._on_disk:
            return self._values.get(self._on_disk[key])
        return self.memory[key]

    def beginning_with(self, prefix: bytes) -> Mapping[bytes, bytes]:
        return _Some(self, [key for key in [*self.memory, *self._on_disk] if key.startswith(prefix)])


class _Some(Mapping[bytes, bytes]):
    """Entries of these keys, each read when it is asked for."""

    def __init__(self, entries: Restored, keys: Sequence[bytes]) -> None:
        self._entries, self._keys = entries, keys

    def __getitem__(self, key: bytes) -> bytes:
        return self._entries.get(key)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
