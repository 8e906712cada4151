"""A byte of flags a slot, of which those that changed are found without looking at all slots.

A commit changes some thousand of perhaps many million keys, scattered over all of them. To look through the flags of ten million takes
half a millisecond and more, several times a commit. So beside the flags it is noted which slots got them: arrays of slots as they
came, sorted when they are asked for. Where these become many, compared with all slots, the flags are looked through as they are.

Slots come out in ascending order, each once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .slots import Slots, distinct, grown

_SCAN_SHARE: Final = 8
"""With more than one slot in so many noted, looking through all is cheaper than sorting what was noted."""


class SlotFlags:
    """`changed`: the flags that `touch` sets and `take` takes. Room is made by `reserve` before a slot is named."""

    def __init__(self, changed: int) -> None:
        self._changed = changed
        self._flags = np.zeros(0, np.uint8)
        self._touched = _Noted()
        self._noted = {flag: _Noted() for flag in (1 << bit for bit in range(8)) if flag & changed}

    def __len__(self) -> int:
        """How many slots there is room for."""
        return len(self._flags)

    @property
    def size_bytes(self) -> int:
        return self._flags.nbytes + 8 * sum(noted.count for noted in (self._touched, *self._noted.values()))

    def reserve(self, slots: int) -> None:
        self._flags = grown(self._flags, slots, 0)

    def touch(self, slots: Slots) -> None:
        """The same as `add(slots, changed)`, done when it is needed: once for all the rows until then."""
        self._touched.note(slots)
        if self._touched.count > len(self._flags):
            self._settle()

    def of(self, slots: Slots) -> NDArray[np.uint8]:
        self._settle()
        return self._flags[slots]

    def add(self, slots: Slots, flags: int) -> None:
        self._flags[slots] |= flags
        self._note(slots, flags)

    def remove(self, slots: Slots, flags: int) -> None:
        self._settle()
        self._flags[slots] &= ~flags & 0xFF

    def put(self, slots: Slots, flags: int) -> None:
        """Exactly these."""
        self._settle()
        self._flags[slots] = flags
        self._note(slots, flags)

    def take(self, flag: int) -> NDArray[np.int64]:
        """The slots with this flag, one of those that `touch` sets, which then have it no longer."""
        self._settle()
        slots = self._noted[flag].take(len(self._flags))
        slots = self.having(flag) if slots is None else slots[(self._flags[slots] & flag) > 0]
        self._flags[slots] &= ~flag & 0xFF
        return slots

    def having(self, flags: int) -> NDArray[np.int64]:
        """The slots with one of these flags; looks at all."""
        self._settle()
        return np.flatnonzero(self._flags & flags)

    def _settle(self) -> None:
        """Touched slots get their flags."""
        slots = self._touched.take(len(self._flags))
        if slots is not None and len(slots):
            self.add(slots, self._changed)

    def _note(self, slots: Slots, flags: int) -> None:
        for flag, noted in self._noted.items():
            if flag & flags:
                noted.note(slots, count_max=len(self._flags) // _SCAN_SHARE)


class _Noted:
    """Slots as they came, or that they were too many to be kept."""

    def __init__(self) -> None:
        self._kept: list[Slots] = []
        self._too_many = False
        self.count = 0

    def note(self, slots: Slots, count_max: int | None = None) -> None:
        if self._too_many:
            return
        self.count += len(slots)
        if count_max is not None and self.count > count_max:
            self._kept, self._too_many, self.count = [], True, 0
        else:
            self._kept.append(slots)

    def take(self, size: int) -> NDArray[np.int64] | None:
        """All of them, ascending and each once; None where they were too many. Begins anew."""
        kept, too_many = self._kept, self._too_many
        self._kept, self._too_many, self.count = [], False, 0
        if too_many:
            return None
        return distinct(np.concatenate(kept), size) if kept else np.zeros(0, np.int64)
