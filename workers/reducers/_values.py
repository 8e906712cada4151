"""Columns of values as numpy arrays that slots can address, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.slots import Slots, Values
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


def texts(values: Values, column_type: pl.DataType) -> pl.Series:
    """Values that are no numbers, in the type they are kept in."""
    assert isinstance(values, pl.Series), "only numbers come as arrays"
    return values.cast(column_type)
