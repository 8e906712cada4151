"""What steps with tables do alike: keep the newest rows with their times, remember what was given, and write upserts and tombstones.

A step that gives its changes once a commit must know, for each key it touched, whether a row of it had been given at the last
commit: only then is there something to take away. `Touched` keeps that answer from the first time a key was touched.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..state.rows import TableState
from ..topics.batch import BEFORE, DELETED, OFFSET, TIME, Batch
from ..topics.key import columns_of
from ..topics.schema import Schema
from .gathering import EMIT_ROWS_MAX
from .operator import Emit
from .row_bytes import RowBytes

Flags = NDArray[np.bool_]


def timed_table(name: str, schema: Schema) -> TableState:
    """The newest rows, each with its event time in the column `TIME`."""
    columns = {**schema.polars(), TIME: pl.Int64()}
    return TableState(name, columns, RowBytes(columns))


def put_rows(state: TableState, keys: pl.Series, batch: Batch, deleted: pl.Series | None) -> None:
    """Upserts and tombstones, as `table_schemas.table_keys` gives them."""
    state.put(keys, batch.frame, None if deleted is None else deleted.to_numpy())


@dataclass(frozen=True, slots=True)
class TouchedKeys:
    """Columns of one length."""

    keys: pl.Series
    given: Flags
    times: pl.Series

    def told(self, there: Flags) -> tuple[TouchedKeys, Flags]:
        """Those of which there is anything to tell: a row, or that there is none any more. And which of them have one."""
        told = there | self.given
        mask = pl.Series(told)
        return TouchedKeys(self.keys.filter(mask), self.given[told], self.times.filter(mask)), there[told]


@dataclass(slots=True)
class Touched:
    """Keys that changed since the last commit: of each whether a row of it had been given by then, and when it last changed."""

    parts: list[pl.DataFrame] = field(default_factory=list)

    def add(self, keys: pl.Series, given: Flags, times: NDArray[np.int64]) -> None:
        """`given`: as it is now; of a key that was touched before, the earlier answer counts. `times`: of the changes."""
        columns = [keys.alias("key"), pl.Series("given", given, dtype=pl.Boolean), pl.Series("time", times)]
        self.parts.append(pl.DataFrame(columns))
        if len(self.parts) >= _PARTS_MAX:
            self.parts = [self._joined()]

    def take(self) -> TouchedKeys | None:
        """The keys, each once, in the order in which they were first touched."""
        if not self.parts:
            return None
        frame, self.parts = self._joined(), []
        return TouchedKeys(frame["key"], frame["given"].to_numpy(), frame["time"])

    def _joined(self) -> pl.DataFrame:
        grouped = pl.concat(self.parts).group_by("key", maintain_order=True)
        return grouped.agg(pl.col("given").first(), pl.col("time").max())


_PARTS_MAX = 64


@dataclass(frozen=True, slots=True)
class TableWriter:
    """Makes batches of upserts and tombstones. `schema`: of the result; `key`: its key columns."""

    schema: Schema
    key: tuple[str, ...]

    def emits(
        self,
        touched: TouchedKeys,
        rows: pl.DataFrame,
        deleted: Flags,
        watermark: int,
    ) -> list[Emit]:
        """`rows`: columns of the result (the key's are made from the texts) and `TIME`, null where a row has none.

        `watermark`: as passed on before; no row's time is behind it, nor behind the change by which it came about.
        """
        kinds, size = dict(self.schema), len(touched.keys)
        known = columns_of(touched.keys, Schema(tuple((name, kinds[name]) for name in self.key)))
        time = pl.max_horizontal(pl.col(TIME), touched.times, pl.lit(watermark, pl.Int64)).alias(TIME)
        frame = rows.with_columns(known.get_columns()).select(*self.schema.names, time)
        ours = [pl.Series(name, np.full(size, value)) for name, value in ((BEFORE, watermark), (OFFSET, -1))]
        frame = frame.with_columns(*ours)
        if deleted.any():
            frame = frame.with_columns(pl.Series(DELETED, deleted))
        return [Emit(Batch(part)) for part in frame.iter_slices(EMIT_ROWS_MAX) if len(part)]


def last_of_each(keys: pl.Series) -> NDArray[np.int64]:
    """Where the last row of each key stands, in the order of the rows."""
    at = pl.DataFrame({"key": keys, "at": np.arange(len(keys))})
    return at.unique("key", keep="last", maintain_order=True)["at"].sort().to_numpy()
