"""Kafka's hash of keys (murmur2.c): 0.01 us a key."""

from __future__ import annotations

import ctypes

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .loader import address, binary_column, library


def murmur2_hashes(keys: pa.LargeBinaryArray) -> NDArray[np.uint32] | None:
    """The hash of each key, of a null 0; None where the library is missing."""
    native = library()
    if native is None:
        return None
    hashes = np.empty(len(keys), np.uint32)
    native.ms_murmur2(ctypes.byref(binary_column(keys)), ctypes.c_int64(len(keys)), address(hashes))
    return hashes
