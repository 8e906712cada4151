"""All values of a column as a list, in the order of their times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.slots import Accumulator, Slots, Values
from ..reducer import checked_column
from ._objects import ObjectAccumulator
from ._packing import pack_values, unpack_values
from ._values import checked_scalar, lists_of, number_type, numbers, texts, without_nulls


@dataclass(frozen=True, slots=True)
class Collect:
    """`collect("page")`: a list, ordered by event time, rows of one time by arrival; nulls are skipped, no rows are `[]`.

    It keeps every value of every open window in memory, and writes all values of a changed key and window at each commit:
    fit for thousands of rows a key, not for millions.
    """

    name: ClassVar[str] = "collect"
    column: str

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        return pl.List(checked_scalar(self.name, column_type))

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return _Collected(checked_scalar(self.name, column_type))


class _Collected(ObjectAccumulator):
    """`values[slot]`: (times, values), two lists in order of arrival."""

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "a list is of a column"
        slots, values, times = without_nulls(slots, values, times)
        kind = number_type(self.column_type)
        column = texts(values, self.column_type).to_list() if kind is None else numbers(values, kind).tolist()
        for slot, time, value in zip(slots.tolist(), times.tolist(), column, strict=True):
            held = self.values[slot]
            if held is None:
                held = self.values[slot] = ([], [])
            held[0].append(time)
            held[1].append(value)

    def merge(self, into: Slots, source: Slots) -> None:
        for slot, other in zip(into.tolist(), source.tolist(), strict=True):
            if self.values[other] is not None:
                times, values = self.values[slot] or ([], [])
                more_times, more_values = self.values[other]
                self.values[slot] = (times + more_times, values + more_values)

    def result(self, slots: Slots) -> pl.Series:
        return lists_of([_in_order(held) for held in self.values[slots].tolist()], self.column_type)

    def dump(self, value: Any) -> bytes:
        if value is None:
            return b""
        times, values = value
        return (
            len(times).to_bytes(4, "little") + np.array(times, "<i8").tobytes() + pack_values(values, self.column_type)
        )

    def parse(self, data: bytes) -> Any:
        if not data:
            return None
        stop = 4 + 8 * int.from_bytes(data[:4], "little")
        return np.frombuffer(data[4:stop], "<i8").tolist(), unpack_values(data[stop:], self.column_type)

    @property
    def size_bytes(self) -> int:
        """An estimate: 150 bytes a value."""
        return super().size_bytes + 150 * sum(len(held[0]) for held in self.values.tolist() if held)


def _in_order(held: tuple[list[int], list[Any]] | None) -> list[Any]:
    if held is None:
        return []
    times, values = held
    return [values[row] for row in sorted(range(len(times)), key=times.__getitem__)]
