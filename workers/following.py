"""What `followed_by` and `not_followed_by` are alike in: their checks, which rows they wait with, and which are late.

    b follows a     keys equal,  a.t < b.t <= a.t + within;  of several the one with the smallest time, of equal times
                    the first by arrival
    certain         a pair when W - grace > b.t: no earlier b can come; absence when W - grace > a.t + within

A row of either stream is late iff `t < W_before - grace`. It is counted, given on output 1 padded to the columns of both, and
plays no part. Rows with a null key follow nothing and are followed by nothing (`null_key_rows`), as in SQL.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..state.following import FollowingState
from ..topics.batch import BEFORE, MIN_TIME, OFFSET, TIME, Batch
from ..topics.duration import duration_text
from ..topics.key import key_text
from ..topics.schema import Schema
from .errors import PlanError
from .gathering import LATE_REASON
from .lateness import TIME_LIMIT, count, late_rows, lowered, told_late, usable
from .operator import Context, Emit, Operator, StateDefinition


@dataclass(frozen=True, slots=True)
class Following:
    """What is declared of a pattern of two streams. `step`: its kind, for errors."""

    step: str
    by: tuple[str, ...]
    within_ms: int
    grace_ms: int
    suffix: str

    def check(self, first: Schema, second: Schema) -> None:
        """Raises PlanError."""
        if not 0 < self.within_ms < TIME_LIMIT // 4:
            raise PlanError(f"{self.step}: within must be longer than 0, got {duration_text(self.within_ms)}")
        if not 0 <= self.grace_ms < TIME_LIMIT // 4:
            raise PlanError(f"{self.step}: grace must not be negative, got {duration_text(self.grace_ms)}")
        if not self.by:
            raise PlanError(f"{self.step}: by= needs a column; rows follow one another by equal keys")
        for column in self.by:
            kinds = [
                _kind(self.step, column, schema, which) for schema, which in ((first, "first"), (second, "second"))
            ]
            if kinds[0] != kinds[1]:
                raise PlanError(
                    f"{self.step}: key column {column!r} is {kinds[0]} in the first stream and {kinds[1]} in the second; cast one"
                )
        try:
            key_text(first.empty(), self.by)
        except Exception as error:
            raise PlanError(f"{self.step}: by=({', '.join(self.by)}) cannot be a key: {error}") from error

    def both(self, first: Schema, second: Schema) -> Schema:
        """The first's columns, then the second's but for the key, with the suffix where a name is taken."""
        columns = dict(first)
        for column, renamed in self.second_names(first, second).items():
            if renamed in columns:
                raise PlanError(
                    f"{self.step}: the second stream's column {column!r} would be {renamed!r}, which is taken "
                    f"({', '.join(columns)}); rename it before, or choose another suffix than {self.suffix!r}"
                )
            columns[renamed] = dict(second)[column]
        if LATE_REASON in columns:
            raise PlanError(f"{self.step}: rename the column {LATE_REASON!r}; late rows get one of that name")
        return Schema.of(columns)

    def late(self, first: Schema, second: Schema) -> Schema:
        return Schema.of({**dict(self.both(first, second)), LATE_REASON: "string"})

    def second_names(self, first: Schema, second: Schema) -> dict[str, str]:
        """Names in the output of the second stream's columns that are not keys."""
        names = [name for name in second.names if name not in self.by]
        return {name: name + self.suffix if name in first else name for name in names}

    def describe(self) -> Mapping[str, str]:
        within, grace = duration_text(self.within_ms), duration_text(self.grace_ms)
        return {"by": ", ".join(self.by), "within": within, "grace": grace}

    def state(self, first: Schema, second: Schema) -> StateDefinition:
        """Rows are kept whole; how long, the state itself says."""
        told = self.describe()
        return StateDefinition(
            {
                "by": told["by"],
                "within": told["within"],
                "grace": told["grace"],
                "first": first.text(),
                "second": second.text(),
            }
        )


def _kind(step: str, column: str, schema: Schema, which: str) -> pl.DataType:
    if column in schema:
        return dict(schema)[column]
    close = difflib.get_close_matches(column, schema.names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise PlanError(f"{step}: the {which} stream has no column {column!r}{hint} Columns: {', '.join(schema.names)}")


class FollowingOperator(Operator):
    """Takes rows in. `kept`: the columns of the second stream that are needed; what is certain subclasses give in `advance`."""

    def __init__(self, what: Following, first: Schema, second: Schema, kept: Sequence[str], delay_ms: int) -> None:
        self.what = what
        self.columns = (first.names, list(kept))
        columns = first.polars(), {name: kind for name, kind in second if name in kept}
        self.state = FollowingState(
            what.by,
            *columns,
            within_ms=what.within_ms,
            grace_ms=what.grace_ms,
            key_texts=lambda rows: key_text(rows, what.by),
        )
        self.states = (self.state.firsts, self.state.seconds)
        self.delay_ms = delay_ms
        self.late_schema = what.late(first, second)
        self._names = ({name: name for name in first.names}, {name: name for name in what.by})
        self._names[1].update(what.second_names(first, second))
        self.watermark = MIN_TIME

    def open(self, context: Context, watermark: int) -> None:
        """The larger of the committed watermark and the one kept with the rows wins."""
        self.context = context
        self.watermark = self.state.open(watermark)

    @property
    def passed_on(self) -> int:
        """The watermark passed on so far."""
        return lowered(self.watermark, self.delay_ms)

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        batch = usable(batch, self.what.step, self.context)
        if not len(batch):
            return ()
        late = late_rows(batch, self.watermark, self.what.grace_ms)
        emits: list[Emit] = []
        if late is not None:
            emits.append(self._late(batch, late, input_index))
            batch = batch.replaced(batch.frame.filter(pl.Series(~late)))
        keyed = _keyed(batch.frame, self.what.by)
        if keyed is not None:
            count(self.context, "null_key_rows", int((~keyed).sum()))
            emits += self.without_key(batch.replaced(batch.frame.filter(pl.Series(~keyed))), input_index)
            batch = batch.replaced(batch.frame.filter(pl.Series(keyed)))
        if len(batch):
            self.state.keep(input_index, batch.frame.select(self.columns[input_index]), batch.time)
            count(self.context, "join_spilled_bytes", self.state.firsts.take_spilled_bytes())
        return emits

    def without_key(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        """Rows on time with a null in their key."""
        return ()

    def _late(self, batch: Batch, late: NDArray[np.bool_], input_index: int) -> Emit:
        told = told_late(batch, late, self.watermark, self.what.grace_ms, self.context)
        known = {new: pl.col(name) for name, new in self._names[input_index].items()}
        known[LATE_REASON] = pl.col(LATE_REASON)
        columns = [known.get(name, pl.lit(None, kind)).alias(name) for name, kind in self.late_schema]
        return Emit(batch.replaced(told.select(*columns, TIME, BEFORE, OFFSET)), 1)


def _keyed(rows: pl.DataFrame, by: Sequence[str]) -> NDArray[np.bool_] | None:
    """Which rows have a key without nulls; None: all."""
    if not any(rows[name].null_count() for name in by):
        return None
    flags: NDArray[np.bool_] = (
        rows.select(pl.all_horizontal(pl.col(name).is_not_null() for name in by)).to_series().to_numpy()
    )
    return flags
