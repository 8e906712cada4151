"""Of the rows of a key that are near in event time, one.

    keep="first"     by arrival   a row is a duplicate  iff  |t - t of a row kept before it| < within; given at once
    keep="earliest"  by time      a row is a duplicate  iff   t - t of a row kept at or before t  < within; given when
                                  W - grace > t: then everything before it, and everything at its time, has come

A duplicate extends nothing: it is the kept rows that others are compared with, so a row every minute with `within="10m"` is
kept every ten minutes. Kept rows of one key are `within` or more apart; rows out of order can be kept before and behind one
another. Of rows of one key and one time the first by arrival counts. Duplicates are counted (`duplicate_rows`).

A row is late iff `t < W_before - grace`: what it would have to be compared with is gone. It is counted and given on output 1.
Until then kept times are held: freed when the watermark is `grace` and `within` past them (by buckets of `within`, so up to
once `within` later). `earliest` holds rows too, until they are decided. What `earliest` gives depends on no order of arrival;
what `first` gives does, by its nature. A null key is a dead letter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl

from ...state.kept_times import KeptTimes
from ...state.waiting_rows import WaitingRows
from ...topics.batch import BEFORE, MIN_TIME, Batch
from ...topics.duration import duration_text
from ...topics.key import key_text
from ...topics.schema import Schema
from ..errors import PlanError
from ..gathering import EMIT_ROWS_MAX, LATE_REASON, keyed
from ..lateness import TIME_LIMIT, count, late_rows, lowered, made_rows, told_late, usable
from ..operator import Context, Emit, Operator, StateDefinition

Keep = Literal["first", "earliest"]


@dataclass(frozen=True, slots=True)
class Deduplicate:
    """Output 0: the rows kept, as they were. Output 1: rows too late, with `late_reason`."""

    kind: ClassVar[str] = "deduplicate"
    by: tuple[str, ...]
    within_ms: int
    keep: Keep = "first"
    grace_ms: int = 0

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        (rows,) = inputs
        if self.keep not in ("first", "earliest"):
            raise PlanError(f"deduplicate: no keep={self.keep!r}; one of: first (by arrival), earliest (by event time)")
        if not 0 < self.within_ms < TIME_LIMIT // 4:
            raise PlanError(f"deduplicate: within must be longer than 0, got {duration_text(self.within_ms)}")
        if not 0 <= self.grace_ms < TIME_LIMIT // 4:
            raise PlanError(f"deduplicate: grace must not be negative, got {duration_text(self.grace_ms)}")
        check_key(self.kind, rows, self.by)
        if LATE_REASON in rows:
            raise PlanError(f"deduplicate: rename the column {LATE_REASON!r}; late rows get one of that name")
        return rows, Schema.of({**dict(rows), LATE_REASON: "string"})

    def build(self, inputs: Sequence[Schema]) -> Operator:
        return _First(self) if self.keep == "first" else _Earliest(self, inputs[0])

    def describe(self) -> Mapping[str, str]:
        within, grace = duration_text(self.within_ms), duration_text(self.grace_ms)
        return {"by": ", ".join(self.by), "within": within, "keep": self.keep, "grace": grace}

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        """`earliest` keeps rows whole, and those that wait do so for the grace that was said when they came."""
        parameters = {"by": inputs[0].text(self.by), "within": duration_text(self.within_ms), "keep": self.keep}
        if self.keep == "first":
            return StateDefinition(parameters, {"grace": self.grace_ms})
        return StateDefinition({**parameters, "grace": duration_text(self.grace_ms), "rows": inputs[0].text()})


def check_key(step: str, rows: Schema, by: Sequence[str]) -> None:
    """Raises PlanError where these columns cannot be a key."""
    if not by:
        raise PlanError(f"{step}: by= needs a column")
    try:
        key_text(rows.empty(), by)
    except Exception as error:
        raise PlanError(f"{step}: by=({', '.join(by)}) cannot be a key: {error}") from error


class _First(Operator):
    def __init__(self, step: Deduplicate) -> None:
        self.step = step
        self.kept = KeptTimes("kept", step.within_ms, step.grace_ms)
        self.states = (self.kept,)
        self.delay_ms = step.grace_ms
        self.watermark = MIN_TIME

    def open(self, context: Context, watermark: int) -> None:
        self.context = context
        self.watermark = self.kept.open(watermark)

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        batch, keys, emits = _judged(self.step, batch, self.watermark, self.context)
        if not len(batch):
            return emits
        kept = self.kept.keep(keys, batch.time)
        count(self.context, "duplicate_rows", len(kept) - int(kept.sum()))
        frame = batch.frame if kept.all() else batch.frame.filter(pl.Series(kept))
        if self.step.grace_ms:
            frame = frame.with_columns((pl.col(BEFORE) - self.step.grace_ms).clip(lower_bound=MIN_TIME))
        return [Emit(batch.replaced(frame)), *emits]

    def advance(self, watermark: int) -> Sequence[Emit]:
        self.kept.advance(watermark)
        self.watermark = max(self.watermark, watermark)
        return ()


class _Earliest(Operator):
    """Rows wait until their time has passed; then they are judged in the order of their times, as `first` judges arrivals."""

    def __init__(self, step: Deduplicate, rows: Schema) -> None:
        self.step, self.columns = step, rows.names
        self.kept = KeptTimes("kept", step.within_ms, step.grace_ms)
        self.waiting = WaitingRows("waiting", rows.polars(), step.grace_ms)
        self.states = (self.kept, self.waiting)
        self.delay_ms = step.grace_ms
        self.watermark = MIN_TIME

    def open(self, context: Context, watermark: int) -> None:
        self.context = context
        self.watermark = self.waiting.open(self.kept.open(watermark))

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        batch, _, emits = _judged(self.step, batch, self.watermark, self.context)
        if len(batch):
            self.waiting.keep(batch.frame.select(self.columns), batch.time)
        return emits

    def advance(self, watermark: int) -> Sequence[Emit]:
        passed_on = lowered(self.watermark, self.delay_ms)
        decided = self.waiting.advance(watermark)
        emits: list[Emit] = []
        if decided is not None:
            frame, times = decided
            kept = self.kept.keep(key_text(frame, self.step.by), times)
            count(self.context, "duplicate_rows", len(kept) - int(kept.sum()))
            given = made_rows(frame.filter(pl.Series(kept)), times[kept], passed_on).frame
            emits = [Emit(Batch(part)) for part in given.iter_slices(EMIT_ROWS_MAX) if len(part)]
        self.kept.advance(watermark)
        self.watermark = max(self.watermark, watermark)
        return emits


def _judged(step: Deduplicate, batch: Batch, watermark: int, context: Context) -> tuple[Batch, pl.Series, list[Emit]]:
    """The rows that have a key and are on time, their keys, and the late ones to be given."""
    batch, keys = keyed(usable(batch, "deduplicate", context), step.by, context)
    late = late_rows(batch, watermark, step.grace_ms) if len(batch) else None
    if late is None:
        return batch, keys, []
    emit = Emit(batch.replaced(told_late(batch, late, watermark, step.grace_ms, context)), 1)
    on_time = pl.Series(~late)
    return batch.replaced(batch.frame.filter(on_time)), keys.filter(on_time), [emit]
