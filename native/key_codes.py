"""Numbers for texts (key_codes.c), sixteen looked up together: with millions of keys most looks miss every cache."""

from __future__ import annotations

import ctypes
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .loader import address, binary_column, library

CODES_MAX: Final = 1 << 31
_ENTRY_BYTES: Final = 16
_ENTRIES_MIN: Final = 1 << 10
_ARENA_BYTES_MIN: Final = 1 << 14
_LENGTH_BYTES: Final = 4


class _Dictionary(ctypes.Structure):
    """`dictionary` of key_codes.c."""

    _fields_ = (
        ("table", ctypes.c_void_p),
        ("capacity", ctypes.c_int64),
        ("arena", ctypes.c_void_p),
        ("arena_bytes", ctypes.c_int64),
        ("places", ctypes.c_void_p),
        ("seed", ctypes.c_uint64),
        ("size", ctypes.c_int64),
        ("used", ctypes.c_int64),
    )


class TextCodes:
    """Codes in order of first sight, from 0. `seed` changes where entries lie, and nothing that is seen.

    Raises RuntimeError where the library is missing (`library()` is None), and OverflowError beyond `CODES_MAX` texts.
    """

    def __init__(self, seed: int = 0) -> None:
        native = library()
        if native is None:
            raise RuntimeError("the native library is missing")
        self._native = native
        self._table = np.zeros(_ENTRIES_MIN * _ENTRY_BYTES, np.uint8)
        self._arena = np.empty(_ARENA_BYTES_MIN, np.uint8)
        self._places = np.empty(_ENTRIES_MIN // 2, np.uint64)
        self._of = _Dictionary(seed=seed & 0xFFFF_FFFF_FFFF_FFFF)
        self._point()

    def _point(self) -> None:
        self._of.table, self._of.capacity = self._table.ctypes.data, len(self._table) // _ENTRY_BYTES
        self._of.arena, self._of.arena_bytes = self._arena.ctypes.data, len(self._arena)
        self._of.places = self._places.ctypes.data

    def __len__(self) -> int:
        """Texts known."""
        return int(self._of.size)

    @property
    def size_bytes(self) -> int:
        return self._table.nbytes + self._arena.nbytes + self._places.nbytes

    def codes(self, texts: pa.LargeBinaryArray) -> NDArray[np.uint32]:
        """Of texts without nulls; new ones get the next codes."""
        column, rows, done = binary_column(texts), len(texts), 0
        codes = np.empty(rows, np.uint32)
        while True:
            done = self._native.ms_key_codes(
                ctypes.byref(self._of),
                ctypes.byref(column),
                ctypes.c_int64(done),
                ctypes.c_int64(rows),
                address(codes),
            )
            if done == rows:
                return codes
            self._make_room(len(texts[done].as_buffer()))

    def _make_room(self, text_bytes: int) -> None:
        """For one text more."""
        if len(self) == len(self._places):
            self._grow_table()
        wanted = self._of.used + _LENGTH_BYTES + text_bytes
        if wanted > len(self._arena):
            arena = np.empty(max(2 * len(self._arena), wanted), np.uint8)
            arena[: self._of.used] = self._arena[: self._of.used]
            self._arena = arena
        self._point()

    def _grow_table(self) -> None:
        if len(self) >= CODES_MAX:
            raise OverflowError(f"{CODES_MAX} texts have codes already")
        table = np.zeros(2 * len(self._table), np.uint8)
        self._native.ms_key_rehash(
            address(self._table),
            ctypes.c_int64(self._of.capacity),
            address(table),
            ctypes.c_int64(2 * self._of.capacity),
        )
        places = np.empty(2 * len(self._places), np.uint64)
        places[: len(self)] = self._places
        self._table, self._places = table, places

    def texts(self, codes: NDArray[Any]) -> pa.LargeStringArray:
        """A LargeString column. Raises IndexError for a code that was not given."""
        asked = np.ascontiguousarray(codes, np.uint32)
        if len(asked) and int(asked.max()) >= len(self):
            raise IndexError(f"no text has the code {int(asked.max())}; there are {len(self)}")
        rows = ctypes.c_int64(len(asked))
        offsets = np.empty(len(asked) + 1, np.int64)
        size = self._native.ms_key_lengths(ctypes.byref(self._of), address(asked), rows, address(offsets))
        data = np.empty(size, np.uint8)
        self._native.ms_key_texts(ctypes.byref(self._of), address(asked), rows, address(offsets), address(data))
        buffers = [None, pa.py_buffer(offsets.data), pa.py_buffer(data.data)]
        return cast(pa.LargeStringArray, pa.Array.from_buffers(pa.large_string(), len(asked), buffers))
