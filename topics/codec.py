"""Columns of bytes <-> a frame. One codec, one file in `codecs/`, named as in YAML (`json`, `raw`, `text`).

A codec never raises for a record it cannot read: it says which rows and why, and the others go on. The contract suite is
`tests/contracts/test_codecs.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from .schema import Schema


@dataclass(frozen=True, slots=True)
class BadRow:
    """A record that could not be read."""

    row: int
    """Number of the record among those given."""
    reason: str
    """What is wrong and where: "expected int, got 'x' - at $.qty"."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The readable records as a frame, in their order."""

    frame: pl.DataFrame
    rows: NDArray[np.int64] | None
    """For each row of the frame the number of its record among those given; None: all of them, one to one."""
    bad: Sequence[BadRow] = ()


class Codec(Protocol):
    """How values (never keys) are written. Stateless; one object may serve many topics."""

    @property
    def name(self) -> str: ...

    def decode(self, values: Sequence[bytes | None], schema: Schema) -> Decoded:
        """The frame has exactly the schema's columns and types. Null values (tombstones) are given as bad rows
        with the reason "null value": only a table's reader knows what they mean, and takes them out first."""
        ...

    def encode(self, frame: pl.DataFrame) -> pa.LargeBinaryArray:
        """One value a row, of all the frame's columns (no internal ones are given). Raises SchemaError for a type
        that cannot be written."""
        ...

    def check(self, schema: Schema) -> None:
        """Raises SchemaError naming the column when this codec cannot carry the schema."""
        ...
