"""Accumulators that hold a Python object a slot: text, sets, lists. Slower than numbers, and exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ...state.slots import Layout, Part, Slots, grown


class ObjectAccumulator:
    """`values[slot]`: a text or bytes, None where there was none. Subclasses may keep something else (`dump`, `parse`)."""

    layout: Layout = (None,)

    def __init__(self, column_type: pl.DataType) -> None:
        self.column_type = column_type
        self.values: NDArray[np.object_] = np.full(0, None, object)
        self._payload_bytes = 0

    def reserve(self, slots: int) -> None:
        self.values = grown(self.values, slots, None)

    def clear(self, slots: Slots) -> None:
        self.values[slots] = None

    def unfit(self, slots: Slots) -> NDArray[np.bool_] | None:
        return None

    def result(self, slots: Slots) -> pl.Series:
        return pl.Series(self.values[slots].tolist(), dtype=self.column_type)

    def encode(self, slots: Slots) -> list[Part]:
        return [pa.array([self.dump(value) for value in self.values[slots].tolist()], pa.large_binary())]

    def decode(self, slots: Slots, parts: Sequence[Part]) -> None:
        part = parts[0]
        assert not isinstance(part, np.ndarray), "objects are encoded as bytes"
        for slot, data in zip(slots.tolist(), part.to_pylist(), strict=True):
            self.values[slot] = self.parse(data or b"")

    def dump(self, value: Any) -> bytes:
        """The bytes of a slot: nothing for None, else a mark and the text."""
        if value is None:
            return b""
        return b"\x01" + (value if isinstance(value, bytes) else value.encode())

    def parse(self, data: bytes) -> Any:
        """The inverse of `dump`."""
        if not data:
            return None
        return data[1:] if isinstance(self.column_type, pl.Binary) else data[1:].decode()

    @property
    def size_bytes(self) -> int:
        """An estimate: 64 bytes an object."""
        return int(self.values.nbytes) + 64 * len(self.values)
