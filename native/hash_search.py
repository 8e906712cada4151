"""Places in ascending codes that begin with a hash (hash_search.c), with two or three misses of the cache a needle."""

from __future__ import annotations

import ctypes
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .loader import address, library

Codes = NDArray[np.uint64]

CODES_MIN: Final = 1 << 12
"""Fewer are in the cache anyway."""
_CODES_A_START: Final = 16
_BITS: Final = 64


class HashStarts:
    """Of one array of codes, which is not changed meanwhile: 0.25 to 0.5 bytes a code."""

    def __init__(self, codes: Codes) -> None:
        bits = max(1, (len(codes) // _CODES_A_START).bit_length())
        self._shift = _BITS - bits
        self._starts = np.empty((1 << bits) + 1, np.uint32)
        native = library()
        assert native is not None, "hash_starts says where there is one"
        native.ms_hash_starts(
            address(codes),
            ctypes.c_int64(len(codes)),
            ctypes.c_int32(self._shift),
            ctypes.c_int64(1 << bits),
            address(self._starts),
        )
        self._search = native.ms_hash_search

    @property
    def size_bytes(self) -> int:
        return self._starts.nbytes

    def places(self, codes: Codes, needles: Codes, *, right: bool = False) -> NDArray[np.int64]:
        """As `codes.searchsorted(needles)`, of the codes it was made for."""
        found = np.empty(len(needles), np.int64)
        self._search(
            address(codes),
            address(self._starts),
            ctypes.c_int32(self._shift),
            address(np.ascontiguousarray(needles, np.uint64)),
            ctypes.c_int64(len(needles)),
            ctypes.c_int32(right),
            address(found),
        )
        return found


def hash_starts(codes: Codes) -> HashStarts | None:
    """None where the library is missing, or where it would not pay."""
    few = len(codes) < CODES_MIN or len(codes) >= 1 << 32
    return None if few or library() is None else HashStarts(codes)
