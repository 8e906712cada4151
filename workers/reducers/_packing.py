"""Many values of one column as bytes: numbers side by side, texts and bytes each behind its length in four bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from ._values import number_type


def pack_values(values: Sequence[Any], column_type: pl.DataType) -> bytes:
    """`values` as `numbers` gives them, or texts."""
    kind = number_type(column_type)
    if kind is not None:
        return np.array(values, kind.newbyteorder("<")).tobytes()
    encoded = [value if isinstance(value, bytes) else value.encode() for value in values]
    return b"".join(len(data).to_bytes(4, "little") + data for data in encoded)


def unpack_values(data: bytes, column_type: pl.DataType) -> list[Any]:
    """The inverse."""
    kind = number_type(column_type)
    if kind is not None:
        return list(np.frombuffer(data, kind.newbyteorder("<")).tolist())
    values, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        values.append(data[at + 4 : end])
        at = end
    return values if isinstance(column_type, pl.Binary) else [value.decode() for value in values]
