"""Rows as bytes in a changelog and a store, and back: fixed-width columns side by side, texts behind their lengths.

    value = null bits (8 bytes for up to 64 columns) | fixed columns, little-endian | each text: length (4 bytes), bytes

Exact for every type a schema can name. Lists and structs are written as JSON of what they hold, so floats in them that are not
finite come back as null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ..state.slots import Layout, Part, pack, unpack
from ..topics.arrow_buffers import series_binary
from ..topics.json_text import json_arrays
from ..topics.json_values import converter
from .errors import PlanError

_COLUMNS_A_WORD = 64


class RowBytes:
    """A `RowCodec` of these columns. Raises PlanError naming a column whose type cannot be kept."""

    def __init__(self, columns: Mapping[str, pl.DataType]) -> None:
        self._columns = dict(columns)
        self._words = -(-len(columns) // _COLUMNS_A_WORD)
        self._layout: Layout = (*[np.dtype(np.uint64)] * self._words, *map(_layout, columns, columns.values()))

    def encode(self, frame: pl.DataFrame) -> pa.LargeBinaryArray:
        columns = [frame[name] for name in self._columns]
        return pack([*self._null_bits(columns), *map(_part, columns)])

    def decode(self, values: pa.LargeBinaryArray) -> pl.DataFrame:
        parts = unpack(values, self._layout)
        bits, cells = parts[: self._words], parts[self._words :]
        named = zip(self._columns.items(), cells, strict=True)
        return pl.DataFrame(
            [_column(name, kind, part, _nulls(bits, number)) for number, ((name, kind), part) in enumerate(named)]
        )

    def _null_bits(self, columns: list[pl.Series]) -> list[NDArray[np.uint64]]:
        words = [np.zeros(len(columns[0]), np.uint64) for _ in range(self._words)]
        for number, column in enumerate(columns):
            if column.null_count():
                word, bit = divmod(number, _COLUMNS_A_WORD)
                words[word] |= column.is_null().to_numpy().astype(np.uint64) << np.uint64(bit)
        return words


def _layout(name: str, kind: pl.DataType) -> np.dtype[Any] | None:
    if kind == pl.Boolean:
        return np.dtype(np.uint8)
    if kind.is_numeric() or kind.is_temporal():
        try:
            physical: np.dtype[Any] = pl.Series([], dtype=kind).to_physical().to_numpy().dtype
            return physical
        except Exception as error:
            raise PlanError(f"column {name!r} of type {kind} cannot be kept in a table; cast it") from error
    if not isinstance(kind, pl.String | pl.Binary):
        try:
            converter(kind)
        except Exception as error:
            raise PlanError(f"column {name!r} of type {kind} cannot be kept in a table; cast it") from error
    return None


def _part(column: pl.Series) -> Part:
    kind = column.dtype
    if kind == pl.Boolean:
        return column.fill_null(False).cast(pl.UInt8).to_numpy()
    if kind.is_numeric() or kind.is_temporal():
        return column.to_physical().fill_null(0).to_numpy()
    if isinstance(kind, pl.String | pl.Binary):
        return series_binary(column.fill_null("" if isinstance(kind, pl.String) else b""))
    return series_binary(json_arrays([column]))


def _nulls(bits: list[Part], number: int) -> NDArray[np.bool_]:
    word, bit = divmod(number, _COLUMNS_A_WORD)
    flags = bits[word]
    assert isinstance(flags, np.ndarray), "null bits are numbers"
    nulls: NDArray[np.bool_] = (flags >> np.uint64(bit)) & np.uint64(1) == 1
    return nulls


def _column(name: str, kind: pl.DataType, part: Part, nulls: NDArray[np.bool_]) -> pl.Series:
    if isinstance(part, np.ndarray):
        column = pl.Series(name, part).cast(kind)
    elif isinstance(kind, pl.String | pl.Binary):
        column = pl.Series(name, part, dtype=pl.Binary).cast(kind)
    else:
        return _nested(name, kind, part)
    if not nulls.any():
        return column
    return pl.select(pl.when(pl.Series(~nulls)).then(column).alias(name)).to_series()


def _nested(name: str, kind: pl.DataType, part: pa.LargeBinaryArray) -> pl.Series:
    convert = converter(kind)
    cells = [orjson.loads(text or b"[null]")[0] for text in part.to_pylist()]
    return pl.Series(name, [None if cell is None else convert(cell, f"$.{name}") for cell in cells], dtype=kind)
