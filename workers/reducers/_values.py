"""Columns of values as numpy arrays that slots can address, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.slots import Slots, Values
from ..errors import PlanError
from ..reducer import refused_type


def number_type(column_type: pl.DataType) -> np.dtype[Any] | None:
    """How values of this type are kept: exactly, as numbers of this numpy type; None where they are no numbers."""
    if isinstance(column_type, pl.Boolean):
        return np.dtype(np.uint8)
    if column_type.is_float():
        return np.dtype(np.float64)
    if isinstance(column_type, pl.UInt64):
        return np.dtype(np.uint64)
    if column_type.is_integer() and not isinstance(column_type, _WIDE):
        return np.dtype(np.int64)
    return np.dtype(np.int64) if column_type.is_temporal() else None


_WIDE = (pl.Int128, pl.UInt128)
_POLARS = {
    np.dtype(np.uint8): pl.UInt8(),
    np.dtype(np.float64): pl.Float64(),
    np.dtype(np.uint64): pl.UInt64(),
    np.dtype(np.int64): pl.Int64(),
}


def numbers(values: Values, kind: np.dtype[Any]) -> NDArray[Any]:
    """Values without nulls as numbers of this type."""
    if isinstance(values, np.ndarray):
        return values.astype(kind, copy=False)
    return values.to_physical().cast(_POLARS[kind]).to_numpy()


def series_of(array: NDArray[Any], column_type: pl.DataType, present: NDArray[np.bool_] | None = None) -> pl.Series:
    """The inverse of `numbers`; null where not present."""
    series = pl.Series(array).cast(column_type)
    if present is None or present.all():
        return series
    return series.zip_with(pl.Series(present), pl.Series([None], dtype=column_type))


def without_nulls(slots: Slots, values: Values, times: NDArray[np.int64]) -> tuple[Slots, Values, NDArray[np.int64]]:
    if isinstance(values, np.ndarray) or not values.null_count():
        return slots, values, times
    present = values.is_not_null()
    rows = present.to_numpy()
    return slots[rows], values.filter(present), times[rows]


def checked_scalar(reducer: str, column_type: pl.DataType | None) -> pl.DataType:
    """The type in which values are kept: categories as their text. Raises PlanError for what is no scalar."""
    if isinstance(column_type, pl.Categorical | pl.Enum):
        return pl.String()
    if column_type is not None and (
        isinstance(column_type, pl.String | pl.Binary) or number_type(column_type) is not None
    ):
        return column_type
    raise refused_type(reducer, column_type, "numbers up to 64 bits, times, booleans, text and bytes")


def checked_number(reducer: str, column_type: pl.DataType | None) -> None:
    """Raises PlanError for what is no number of up to 64 bits."""
    if column_type is None or not column_type.is_numeric() or number_type(column_type) is None:
        raise refused_type(reducer, column_type, "integers and floats up to 64 bits; cast the column first")


def checked_between(call: str, what: str, value: object, least: float, most: float) -> None:
    """Raises PlanError unless it is a number between the two; a whole one where they are. `call`: an example."""
    kinds = (int,) if isinstance(least, int) and isinstance(most, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        reducer, numbers = call.partition("(")[0], "a whole number" if kinds == (int,) else "a number"
        raise PlanError(f"{reducer} takes {what} as {numbers} from {least} to {most}, as in {call}; got {value!r}")


def floats(values: Values) -> NDArray[np.float64]:
    """Numbers without nulls as float64: integers beyond 2**53 are rounded."""
    return np.asarray(numbers(values, np.dtype(np.float64)), np.float64)


def array_of(values: Values, column_type: pl.DataType) -> NDArray[Any]:
    """Values without nulls as an array: numbers as `numbers` gives them, texts and bytes as objects."""
    kind = number_type(column_type)
    if kind is not None:
        return numbers(values, kind)
    return np.array(texts(values, column_type).to_list(), object)


def empty_array(shape: int | tuple[int, int], column_type: pl.DataType) -> NDArray[Any]:
    """An array such as `array_of` gives, of zeros respectively None."""
    kind = number_type(column_type)
    return np.full(shape, None, object) if kind is None else np.zeros(shape, kind)


def order_key(array: NDArray[Any], column_type: pl.DataType, *, largest_first: bool) -> NDArray[Any]:
    """What sorts as the values do, or the other way round. NaN comes last in either; text and bytes go by bytes."""
    if array.dtype == object:
        array = pl.Series(array.tolist(), dtype=column_type).rank("dense").to_numpy()
    if not largest_first:
        return array
    reversed_key: NDArray[Any] = -array if array.dtype.kind == "f" else ~array  # ~ cannot overflow, - can
    return reversed_key


def lists_of(rows: list[list[Any]], column_type: pl.DataType) -> pl.Series:
    """Lists of values as `numbers` gives them, or of texts, as one column."""
    kind = number_type(column_type)
    if kind is None:
        return pl.Series(rows, dtype=pl.List(column_type))
    inner = pl.Series([], dtype=column_type).to_physical().dtype
    return pl.Series(rows, dtype=pl.List(pl.UInt8 if kind == np.uint8 else inner)).cast(pl.List(column_type))


def texts(values: Values, column_type: pl.DataType) -> pl.Series:
    """Values that are no numbers, in the type they are kept in."""
    assert isinstance(values, pl.Series), "only numbers come as arrays"
    return values.cast(column_type)
