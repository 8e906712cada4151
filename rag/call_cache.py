"""What paid calls gave, by the hash of all it depends on, in durable state and the same commit as what was made of it: who
asks the same again, in a replay or a second question, does not pay twice.

    "v" + hash         -> place (u64), the result's bytes
    "p" + place (u64)  -> hash
    "next"             -> the next place (u64)

Places are numbered as entries come; when there are more than the limit the oldest goes (first in, first out: reading an entry
must not write state). Integers are big-endian.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..state.key_value import KeyValueState
from .document import digest

_NEXT: Final = b"next"
_PLACE_BYTES: Final = 8


def cache_key(model: str, text: str) -> bytes:
    """`model`: whom was asked and how, its fingerprint; `text`: what."""
    return bytes.fromhex(digest(model, text, hex_digits=40))


class CallCache:
    """Over one `KeyValueState`."""

    def __init__(self, state: KeyValueState, entries_max: int) -> None:
        self._state = state
        self._entries_max = entries_max

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Results' bytes, as they were put; None where there is none."""
        found = self._state.get_many([b"v" + key for key in keys])
        return [None if value is None else value[_PLACE_BYTES:] for value in found]

    def put(self, key: bytes, result: bytes) -> None:
        """A key that is there keeps its place in the queue."""
        if self._entries_max < 1 or self._state.get(b"v" + key) is not None:
            return
        place = int.from_bytes(self._state.get(_NEXT) or b"")
        self._state.put(b"v" + key, _place(place) + result)
        self._state.put(b"p" + _place(place), key)
        self._state.put(_NEXT, _place(place + 1))
        if place >= self._entries_max:
            self._drop(place - self._entries_max)

    def _drop(self, place: int) -> None:
        key = self._state.get(b"p" + _place(place))
        if key is not None:
            self._state.delete(b"p" + _place(place))
            self._state.delete(b"v" + key)


def _place(number: int) -> bytes:
    return number.to_bytes(_PLACE_BYTES)
