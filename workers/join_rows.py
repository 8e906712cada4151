"""Rows of joins: the texts of their keys, and the columns of what is given of a left row, a right row or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..state.row_chunks import Rows
from ..topics.batch import BEFORE, DELETED, OFFSET, TIME, Batch
from ..topics.key import key_text
from ..topics.schema import Schema
from .gathering import LATE_REASON
from .join_schemas import right_names
from .lateness import made_rows, told_late, usable
from .operator import Context, Emit

PAIRS_MAX: Final = 100_000
"""Rows of one batch that is given."""
_WAS_DELETED: Final = "__was_deleted"

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class JoinKeys:
    """Key texts of rows; null where a key column is null or not a finite number: such a key equals no other."""

    def __init__(self, on: Sequence[str]) -> None:
        self._on = list(on)

    def __call__(self, frame: pl.DataFrame) -> pl.Series:
        texts = key_text(frame, self._on)
        gaps = [gap for name in self._on if (gap := _gap(frame[name])) is not None]
        if not gaps:
            return texts
        return pl.select(pl.when(~pl.any_horizontal(gaps)).then(texts).alias("key")).to_series()


def _gap(column: pl.Series) -> pl.Series | None:
    if column.dtype.is_float() and not column.is_finite().all():
        return (~column.is_finite()).fill_null(True)
    return column.is_null() if column.null_count() else None


class JoinColumns:
    """What stands in the rows of a result. `results`: their schema, of which columns named in neither side come from the caller."""

    def __init__(self, on: Sequence[str], suffix: str, left: Schema, right: Schema) -> None:
        renamed = right_names(on, suffix, left, right)
        self.on = list(on)
        self.right = renamed
        self.kinds = {**dict(left), **{new: dict(right)[name] for name, new in renamed.items()}}
        """Names and types, in order, of a joined row."""
        self._sources = (
            {name: name for name in left.names},
            {**{name: name for name in on}, **{b: a for a, b in renamed.items()}},
        )

    def joined(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """Rows side by side. A right frame has nulls where a row found none."""
        return left.hstack(right.select(pl.col(name).alias(new) for name, new in self.right.items()))

    def padded(self, side: int, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of one side, with nulls for the other's columns."""
        source = self._sources[side]
        return frame.select(
            (pl.col(source[name]) if name in source else pl.lit(None, kind)).alias(name)
            for name, kind in self.kinds.items()
        )

    def late(self, side: int, batch: Batch, late: Flags, told: tuple[int, int, Context]) -> Emit:
        """Counts late rows; gives them padded, with the reason, on output 1. `told`: watermark, grace, context."""
        frame = told_late(batch, late, *told)
        kept = frame.select(LATE_REASON, *(name for name in (TIME, BEFORE, OFFSET) if name in frame.columns))
        return Emit(batch.replaced(self.padded(side, frame).hstack(kept)), 1)


def matches(rows: Rows, places: Ints) -> pl.DataFrame:
    """The rows at these places; nulls for -1."""
    there = places >= 0
    found = rows.at(places[there])
    if there.all():
        return found
    if not found.height:
        return found.clear(len(places))
    at = pl.Series(np.maximum(np.cumsum(there) - 1, 0)).set(pl.Series(~there), None)
    return found.select(pl.all().gather(at))


def in_batches(frame: pl.DataFrame, times: Ints, passed_on: int) -> Iterator[Emit]:
    """Rows at these times, in batches of bounded size."""
    for at in range(0, len(times), PAIRS_MAX):
        yield Emit(made_rows(frame[at : at + PAIRS_MAX], times[at : at + PAIRS_MAX], passed_on))


def usable_versions(batch: Batch, step: str, context: Context) -> tuple[Batch, Flags]:
    """Rows with times that can be worked with, and which of them are tombstones."""
    if DELETED not in batch.frame.columns:
        batch = usable(batch, step, context)
        return batch, np.zeros(len(batch), np.bool_)
    batch = usable(batch.replaced(batch.frame.rename({DELETED: _WAS_DELETED})), step, context)
    deleted = batch.frame[_WAS_DELETED].fill_null(value=False).to_numpy()
    return batch.replaced(batch.frame.drop(_WAS_DELETED)), deleted


def without(batch: Batch, gone: Flags) -> Batch:
    return batch.replaced(batch.frame.filter(pl.Series(~gone))) if gone.any() else batch
