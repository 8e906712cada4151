"""The different values of a column, each kept once. NaN equals NaN, -0.0 equals 0.0."""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.slots import Slots, Values
from ._objects import ObjectAccumulator
from ._packing import pack_values, unpack_values
from ._values import number_type, numbers, texts, without_nulls


class Distinct(ObjectAccumulator):
    """`values[slot]`: a dict whose keys are the values, in order of arrival."""

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "different values are of a column"
        slots, values, _ = without_nulls(slots, values, times)
        frame = pl.DataFrame({"slot": slots, "value": self._comparable(values)}).unique(maintain_order=True)
        for slot, value in zip(frame["slot"].to_list(), frame["value"].to_list(), strict=True):
            held = self.values[slot]
            if held is None:
                held = self.values[slot] = {}
            held[_one_nan(value)] = None

    def _comparable(self, values: Values) -> pl.Series:
        kind = number_type(self.column_type)
        if kind is None:
            return texts(values, self.column_type)
        array = numbers(values, kind)
        return pl.Series(array + 0.0 if kind.kind == "f" else array)  # -0.0 + 0.0 is 0.0

    def merge(self, into: Slots, source: Slots) -> None:
        for slot, other in zip(into.tolist(), source.tolist(), strict=True):
            self.values[slot] = {**(self.values[slot] or {}), **(self.values[other] or {})}

    def dump(self, value: Any) -> bytes:
        return pack_values(list(value or ()), self.column_type)

    def parse(self, data: bytes) -> Any:
        return {_one_nan(value): None for value in unpack_values(data, self.column_type)}

    @property
    def size_bytes(self) -> int:
        """An estimate: 100 bytes a value."""
        return super().size_bytes + 100 * sum(len(held) for held in self.values.tolist() if held)


_NAN = float("nan")


def _one_nan(value: Any) -> Any:
    """A dict finds a NaN again only as the same object."""
    return _NAN if isinstance(value, float) and isnan(value) else value
