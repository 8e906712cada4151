"""The version of each key that holds, for an as-of join backward: rows that came since, before them what a table keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..state.row_chunks import Picked
from ..state.rows import TableState
from ..topics.schema import Schema
from .row_bytes import RowBytes
from .versions import NONE, Versions

Ints = NDArray[np.int64]

_TIME: Final = "__time"
_NEVER: Final = -(1 << 62)
_SWEEPS_IN_REACH: Final = 4


class NewestVersions:
    """`reach_ms`: how old a match may be; None: any age, and nothing is freed."""

    def __init__(self, table: TableState, right: Schema, reach_ms: int | None) -> None:
        self._table = table
        self._right = right
        self._reach = reach_ms
        self._next_sweep = _NEVER

    @staticmethod
    def stored_as(right: Schema) -> tuple[Mapping[str, pl.DataType], RowBytes]:
        """Columns and codec of the table."""
        columns = {**right.polars(), _TIME: pl.Int64()}
        return columns, RowBytes(columns)

    def match(
        self, lefts: Picked, settled: Picked, deleted: NDArray[np.bool_], texts: Callable[[Ints], pl.Series]
    ) -> tuple[pl.DataFrame, Ints, Ints]:
        """Matches, where each left row's stands among them (NONE: nowhere), and their times. `settled` are kept from here on."""
        codes = np.unique(np.concatenate([lefts.codes, settled.codes]))
        codes = codes[codes >= 0]
        keys = texts(codes)
        kept = (
            self._table.get_many(keys)
            if len(codes)
            else self._right.empty().with_columns(pl.lit(0, pl.Int64).alias(_TIME))
        )
        kept_times = kept[_TIME].fill_null(_NEVER).to_numpy()
        versions = Versions(settled.codes, settled.times, deleted)
        at, times = self._found(lefts, versions, codes, kept_times, len(settled))
        newest, of_key = self._newer(versions, codes, kept_times)
        # Of very many rows only those that are a match or the newest are gathered.
        used = np.unique(np.concatenate([at[(at >= 0) & (at < len(settled))], versions.rows[newest]]))
        fresh = settled.at(used)
        if len(newest):
            rows = fresh[used.searchsorted(versions.rows[newest])].with_columns(
                pl.Series(_TIME, versions.times[newest])
            )
            self._table.put(keys[of_key], rows, versions.deleted[newest])
        at = np.where(at < len(settled), np.where(at < 0, NONE, used.searchsorted(at)), at - len(settled) + len(used))
        return pl.concat([fresh, kept.select(fresh.columns)]), at, times

    def _found(
        self, lefts: Picked, versions: Versions, codes: Ints, kept_times: Ints, first_kept: int
    ) -> tuple[Ints, Ints]:
        mine, times = lefts.codes, lefts.times
        found = versions.at_or_before(mine, times)
        found_times = versions.times_of(found, _NEVER)
        of_key = np.where(mine >= 0, np.searchsorted(codes, mine), len(codes))
        older = np.append(kept_times, _NEVER)[of_key]
        at = np.where(versions.living(found), np.append(versions.rows, NONE)[found], NONE)
        kept = older > found_times
        at = np.where(kept, first_kept + of_key, at)
        match_times = np.where(kept, older, found_times)
        if self._reach is not None:
            at[times - match_times > self._reach] = NONE
        return at, match_times

    def _newer(self, versions: Versions, codes: Ints, kept_times: Ints) -> tuple[Ints, Ints]:
        """Versions that take the places of those kept, and of which keys: not older ones; of equal times the later one came later."""
        newest = versions.newest()
        of_key = np.searchsorted(codes, versions.codes[newest])
        newer = versions.times[newest] >= kept_times[of_key]
        return newest[newer], of_key[newer]

    def expire(self, horizon: int) -> None:
        """Lets go of versions that no row from here on can match."""
        if self._reach is None or horizon < self._next_sweep:
            return
        self._next_sweep = horizon + max(1, self._reach // _SWEEPS_IN_REACH)
        keys, rows = self._table.scan()
        gone = rows[_TIME] + self._reach < horizon
        if gone.any():
            keys, rows = keys.filter(gone), rows.filter(gone)
            self._table.put(keys, rows, np.ones(len(keys), np.bool_))
