"""Metadata of the chunks, each distinct one held once: chunks of one document share it, and a filter is tried once for all of them."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from .document import Metadata
from .errors import UndecidedError
from .index import Bitmap

Names = Mapping[str, Any]

_TESTS_MAX: Final = 32
_ASSIGNED_MAX: Final = 200_000


@dataclass(slots=True)
class _Tested:
    """A test's outcome by id, and how many assignments of ids it has seen."""

    passes: Bitmap
    seen: int = 0
    decided: bool = False
    """It could be evaluated on one at least."""
    reason: UndecidedError | None = None
    """Why it could not on the first on which it could not."""


class MetadataTable:
    """By the view's number. A filter sees the metadata and `uri`, the document's id (metadata called `uri` wins)."""

    def __init__(self) -> None:
        self._ids: dict[bytes, int] = {}
        self._names: dict[int, Names] = {}
        self._users: defaultdict[int, int] = defaultdict(int)
        self._keys: dict[int, bytes] = {}
        self._free: list[int] = []
        self._of_number = np.full(256, -1, np.int64)
        self._assigned: list[int] = []
        """Ids in the order they were given, again and again: what a test has not seen yet is at the end."""
        self._tested: OrderedDict[str, _Tested] = OrderedDict()

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

    def bitmap(self, name: str, test: Callable[[Names], bool]) -> Bitmap:
        """Which numbers pass. `name` stands for the test: asked again, it is tried on what is new only (the last 32 are kept).

        What a test cannot decide (UndecidedError) does not pass. Raises that error where it could decide on nothing at all, and any
        other that the test raises.
        """
        tested = self._tested.pop(name, None) or _Tested(np.zeros(0, np.bool_))
        self._tested[name] = tested
        if len(self._tested) > _TESTS_MAX:
            self._tested.popitem(last=False)
        size = len(self._names) + len(self._free)
        if len(tested.passes) < size:
            tested.passes = np.concatenate([tested.passes, np.zeros(size, np.bool_)])
        for held in self._assigned[tested.seen :]:
            names = self._names.get(held)
            tested.passes[held] = names is not None and _passes(tested, test, names)
        tested.seen = len(self._assigned)
        if tested.reason is not None and not tested.decided:
            raise tested.reason
        bitmap: Bitmap = np.append(tested.passes, False)[self._of_number]  # -1, no such number, is the last
        return bitmap

    def _held(self, document: str, metadata: Metadata) -> int:
        key = orjson.dumps([document, metadata], option=orjson.OPT_SORT_KEYS)
        if key not in self._ids:
            held = self._free.pop() if self._free else len(self._names)
            self._ids[key], self._keys[held] = held, key
            self._names[held] = {"uri": document, **metadata}
            self._assign(held)
        return self._ids[key]

    def _assign(self, held: int) -> None:
        if len(self._assigned) >= max(_ASSIGNED_MAX, 4 * len(self._names)):
            self._assigned = list(self._names)
            self._tested.clear()
        else:
            self._assigned.append(held)


def _passes(tested: _Tested, test: Callable[[Names], bool], names: Names) -> bool:
    try:
        passes = test(names)
    except UndecidedError as error:
        tested.reason = tested.reason or error
        return False
    tested.decided = True
    return passes
