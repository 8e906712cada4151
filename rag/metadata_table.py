"""Metadata of the chunks, each distinct one held once: chunks of one document share it, and a filter is tried once for all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson

from .document import Metadata
from .index import Bitmap

Names = Mapping[str, Any]


class MetadataTable:
    """By the view's number. A filter sees the metadata and `uri`, the document's id (metadata called `uri` wins)."""

    def __init__(self) -> None:
        self._ids: dict[bytes, int] = {}
        self._names: dict[int, Names] = {}
        self._users: defaultdict[int, int] = defaultdict(int)
        self._keys: dict[int, bytes] = {}
        self._free: list[int] = []
        self._of_number = np.full(256, -1, np.int64)

    def __len__(self) -> int:
        """Distinct ones."""
        return len(self._names)

    def put(self, number: int, document: str, metadata: Metadata) -> None:
        self.drop(number)
        if number >= len(self._of_number):
            grown = np.full(max(number + 1, 2 * len(self._of_number)), -1, np.int64)
            grown[: len(self._of_number)] = self._of_number
            self._of_number = grown
        held = self._held(document, metadata)
        self._of_number[number] = held
        self._users[held] += 1

    def drop(self, number: int) -> None:
        """A number that is not there is passed over."""
        held = int(self._of_number[number]) if number < len(self._of_number) else -1
        if held < 0:
            return
        self._of_number[number] = -1
        self._users[held] -= 1
        if self._users[held] == 0:
            del self._users[held], self._names[held], self._ids[self._keys.pop(held)]
            self._free.append(held)

    def bitmap(self, test: Callable[[Names], bool]) -> Bitmap:
        """Which numbers pass."""
        passes = np.zeros(1 + max(self._names, default=0), np.bool_)
        for held, names in self._names.items():
            passes[held] = test(names)
        bitmap: Bitmap = passes[self._of_number] & (self._of_number >= 0)
        return bitmap

    def _held(self, document: str, metadata: Metadata) -> int:
        key = orjson.dumps([document, metadata], option=orjson.OPT_SORT_KEYS)
        if key not in self._ids:
            held = self._free.pop() if self._free else len(self._names)
            self._ids[key], self._keys[held] = held, key
            self._names[held] = {"uri": document, **metadata}
        return self._ids[key]
