"""Finds the compiled library. It is plain C called through ctypes: it knows no Python, so one file serves every version of
it, and the interpreter's lock is free while a call runs.

`setup.py` compiles it with the machine's C compiler, or with the one in the package `ziglang`; wheels hold it. Where it is
missing, every caller has its Python way, which gives the same (tests/native compares them): `None` is a fine answer.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

FILE: Final = Path(__file__).with_name("libmillstream.so")

SWITCH: Final = "MILLSTREAM_NATIVE"
"""Environment variable: `0` does without the library."""

VERSION: Final = 3
"""Of the calls between Python and C; a library of another version is left alone."""


_COUNTS: Final = (
    "ms_parse_records",
    "ms_build_records",
    "ms_read_json",
    "ms_json_bytes_max",
    "ms_write_json",
    "ms_key_codes",
    "ms_key_lengths",
)
"""Functions that return a number of rows or bytes."""

_WRITES: Final = ("ms_gather", "ms_murmur2", "ms_key_rehash", "ms_key_texts", "ms_hash_starts", "ms_hash_search")


class BinaryColumn(ctypes.Structure):
    """`binary_column` of columns.h."""

    _fields_ = (
        ("offsets", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("valid", ctypes.c_void_p),
        ("first_bit", ctypes.c_int64),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The library, or None where it is switched off, was not built, or is another version's."""
    if os.environ.get(SWITCH) == "0" or not FILE.exists():
        return None
    try:
        found = ctypes.CDLL(str(FILE))
    except OSError:  # built for another machine
        return None
    if found.ms_version() != VERSION:
        return None
    for name in _COUNTS:
        getattr(found, name).restype = ctypes.c_int64
    for name in _WRITES:
        getattr(found, name).restype = None
    return found


def address(array: NDArray[Any]) -> ctypes.c_void_p:
    """Of an array that lies in one piece and is kept alive by the caller."""
    if not array.flags.c_contiguous:
        raise ValueError("the array does not lie in one piece")
    return ctypes.c_void_p(array.ctypes.data)


def binary_column(array: pa.LargeBinaryArray) -> BinaryColumn:
    """A column whose buffers the caller keeps alive."""
    column: Any = array
    valid, offsets, data = column.buffers()
    if offsets is None:  # an empty column may have none
        return BinaryColumn(_NO_OFFSETS.ctypes.data, None, None, 0)
    begin = offsets.address + column.offset * 8
    return BinaryColumn(begin, data.address if data else None, valid.address if valid else None, column.offset)


_NO_OFFSETS: Final = np.zeros(1, np.int64)
