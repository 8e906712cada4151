"""About how many different values a column has, in bounded memory: HyperLogLog.

Source: Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm" (2007),
with 64-bit hashes (Heule, Nunkesser, Hall, 2013) and the estimator of Ertl, "New cardinality estimation algorithms for
HyperLogLog sketches" (arXiv:1702.01284, algorithm 6), which needs no table of corrections and no special case for small counts.

    m = 2**precision registers; a hash's low `precision` bits choose one, which keeps the largest position of the lowest one-bit
    of the other bits

    state   nothing: no value; 1, registers; or 0, (index 2 bytes, register 1 byte) of those that are not zero, where that is shorter
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ...state.slots import Accumulator, Part, Slots, Values
from ..reducer import checked_column
from ._hashing import hashes
from ._matrix import MatrixAccumulator
from ._values import checked_between, checked_scalar, without_nulls

PRECISION_MIN: Final = 4
PRECISION_MAX: Final = 16
_PAIR: Final = np.dtype([("index", "<u2"), ("register", "u1")])


@dataclass(frozen=True, slots=True)
class ApproxDistinct:
    """`approx_distinct("user")`: Int64, an estimate of `count_distinct`; nulls are not counted, NaN equals NaN, -0.0 equals 0.0.

    Its standard error is 1.04 / sqrt(2**precision), relative: 1.6 % by default (two thirds of estimates are within it, 95 % within
    twice that). Values are found again by a 64-bit hash: more than 10**9 different ones of text add to the error.
    State: 2**precision bytes a key and window in memory (4 KiB by default), in a store less where there are few values.
    The estimate is the same for every order of arrival. `precision`: `PRECISION_MIN` to `PRECISION_MAX`.
    """

    name: ClassVar[str] = "approx_distinct"
    column: str
    precision: int = 12

    def __post_init__(self) -> None:
        checked_column(self.name, self.column)
        call = "approx_distinct(user, precision=14)"
        checked_between(call, "precision", self.precision, PRECISION_MIN, PRECISION_MAX)

    @property
    def standard_error(self) -> float:
        """Relative."""
        return float(1.04 / np.sqrt(1 << self.precision))

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        checked_scalar(self.name, column_type)
        return pl.Int64()

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return _Registers(self.precision, checked_scalar(self.name, column_type))


class _Registers(MatrixAccumulator):
    """`cells`: the registers."""

    def __init__(self, precision: int, column_type: pl.DataType) -> None:
        super().__init__(1 << precision, np.dtype(np.uint8))
        self._precision, self._type = precision, column_type

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "different values are of a column"
        slots, values, _ = without_nulls(slots, values, times)
        if len(slots):
            hashed = hashes(values, self._type)
            index = (hashed & np.uint64(self.width - 1)).astype(np.int64)
            np.maximum.at(self.flat, self.places(slots, index), self._positions(hashed >> np.uint64(self._precision)))

    def _positions(self, bits: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Of the lowest one-bit, from 1; one more than there are bits where all are zero. (A power of two is exact as a float.)"""
        lowest = bits & (~bits + np.uint64(1))
        _, position = np.frexp(lowest.astype(np.float64))
        return np.where(bits == 0, 65 - self._precision, position).astype(np.uint8)

    def merge(self, into: Slots, source: Slots) -> None:
        np.maximum.at(self.cells, into, self.cells[source])

    def result(self, slots: Slots) -> pl.Series:
        levels = 66 - self._precision
        if not len(slots):
            return pl.Series([], dtype=pl.Int64)
        counts = np.stack([np.bincount(row, minlength=levels) for row in self.cells[slots]])
        return pl.Series(np.rint(estimates(counts)).astype(np.int64))

    def encode(self, slots: Slots) -> list[Part]:
        return [pa.array([_dumped(row) for row in self.cells[slots]], pa.large_binary())]

    def decode(self, slots: Slots, parts: Sequence[Part]) -> None:
        assert not isinstance(parts[0], np.ndarray), "registers are encoded as bytes"
        self.clear(slots)
        for slot, data in zip(np.asarray(slots).tolist(), parts[0].to_pylist(), strict=True):
            _parse(data or b"", self.cells[slot])


def _dumped(registers: NDArray[np.uint8]) -> bytes:
    index = np.flatnonzero(registers)
    if not len(index):
        return b""
    if _PAIR.itemsize * len(index) >= len(registers):
        return b"\x01" + registers.tobytes()
    pairs = np.empty(len(index), _PAIR)
    pairs["index"], pairs["register"] = index, registers[index]
    return b"\x00" + pairs.tobytes()


def _parse(data: bytes, registers: NDArray[np.uint8]) -> None:
    """Into registers that are all zero."""
    if data[:1] == b"\x01":
        registers[:] = np.frombuffer(data[1:], np.uint8)
    elif data:
        pairs = np.frombuffer(data[1:], _PAIR)
        registers[pairs["index"]] = pairs["register"]


def estimates(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """`counts[i, k]`: how many registers of sketch i hold k. Ertl's algorithm 6."""
    registers = counts.sum(axis=1)
    last = counts.shape[1] - 1
    z = registers * _tau(1 - counts[:, last] / registers)
    for level in range(last - 1, 0, -1):
        z = 0.5 * (z + counts[:, level])
    with np.errstate(divide="ignore"):
        z = z + registers * _sigma(counts[:, 0] / registers)
        found: NDArray[np.float64] = registers**2 / (2 * np.log(2) * z)
    return found


def _sigma(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """x + sum over k >= 1 of x**(2**k) * 2**(k - 1); infinite at 1."""
    empty = x >= 1
    x = np.where(empty, 0.0, x)
    y, z = 1.0, x
    while True:
        x = x * x
        before, z, y = z, z + x * y, 2 * y
        if np.array_equal(before, z):
            return np.where(empty, np.inf, z)


def _tau(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(1 - x - sum over k >= 1 of (1 - x**(2**-k))**2 * 2**-k) / 3; 0 at 0 and at 1."""
    flat = (x <= 0) | (x >= 1)
    x = np.where(flat, 1.0, x)
    y, z = 1.0, 1 - x
    while True:
        x = np.sqrt(x)
        y *= 0.5
        before, z = z, z - (1 - x) ** 2 * y
        if np.array_equal(before, z):
            return z / 3
