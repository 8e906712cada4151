"""Pairs of rows of two streams whose keys are equal and whose times are near.

    left.t + lower <= right.t <= left.t + upper        both inclusive

A pair is given once, when the second of its rows arrives: a batch looks for partners among the rows kept of the other side,
then its own rows are kept. A row is kept until its last partner on time must have come: `W > t + bound + grace`, `bound` being
`upper` for a left row and `-lower` for a right one. An unmatched row of an outer side is given then, padded with nulls, once;
it is never taken back and never paired later.

A row is late iff `t < BEFORE - grace`, judged row by row. It joins partners still kept and is not kept itself. With none left it
is counted (`late_rows`, or `late_rows.partition_woke` where only the task's watermark is ahead of it), given on output 1 with the
reason, and padded at once where its side is an outer one. Null keys match nothing: a row of an outer side is padded at once.

What it does not do: joins over tombstones (they are rejected), pairs by other conditions than key and time (filter after it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.buffers import TIME_LIMIT, Found, JoinBuffer, Kept, key_hashes, sort_order
from ...state.join_blocks import JoinState
from ...topics.batch import BEFORE, DELETED, INTERNAL_COLUMNS, MIN_TIME, OFFSET, TIME, Batch
from ...topics.duration import duration_text
from ...topics.schema import Schema
from ..errors import PlanError
from ..gathering import LATE_REASON
from ..join_schemas import OUTER, check_grace, check_option, joined_columns, right_names
from ..operator import Context, Emit, Operator, StateDefinition

How = Literal["inner", "left", "right", "outer"]

_PAIRS_MAX: Final = 100_000
"""Rows of one batch that is given."""

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class IntervalJoin:
    """Input 0 is the left stream, input 1 the right one.

    Output 0: the left's columns, then the right's but for `on`, with `suffix` where a name is taken; the time of a pair is the
    later of the two, that of a padded row its own. Output 1: late rows that found nothing, as if padded, with `late_reason`.
    """

    kind: ClassVar[str] = "interval_join"
    on: tuple[str, ...]
    lower_ms: int
    upper_ms: int
    how: How = "inner"
    grace_ms: int = 0
    suffix: str = "_right"
    name: str = "join"
    """Of the store."""

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        left, right = inputs
        self._check_numbers()
        columns = joined_columns(self.kind, self.on, self.suffix, left, right)
        return Schema.of(columns), Schema.of({**columns, LATE_REASON: "string"})

    def build(self, inputs: Sequence[Schema]) -> Operator:
        results, _ = self.output_schemas(inputs)
        return JoinOperator(self, inputs[0], inputs[1], results)

    def describe(self) -> Mapping[str, str]:
        bounds = f"{duration_text(self.lower_ms)} to {duration_text(self.upper_ms)}"
        on, grace = ", ".join(self.on), duration_text(self.grace_ms)
        return {"on": on, "right minus left": bounds, "how": self.how, "grace": grace, "suffix": self.suffix}

    def partitioned_by(self, input_index: int) -> tuple[str, ...]:
        return self.on

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        """Rows are kept whole, as long as the bounds and the grace ask for."""
        left, right = inputs
        told = self.describe()
        parameters = {name: told[name] for name in ("on", "right minus left", "how", "grace")}
        return StateDefinition({**parameters, "left": left.text(), "right": right.text()})

    @property
    def delay_ms(self) -> int:
        """A padded row is older than the watermark by as much as it waited."""
        waits = 0 if self.how == "inner" else max(self.upper_ms, -self.lower_ms, 0)
        return waits + self.grace_ms

    def _check_numbers(self) -> None:
        check_option(self.kind, "how", self.how, OUTER)
        if self.lower_ms > self.upper_ms:
            raise PlanError(
                f"interval_join: lower ({duration_text(self.lower_ms)}) is above upper ({duration_text(self.upper_ms)}): "
                "nothing could ever match; the bounds are right.time minus left.time"
            )
        check_grace(self.kind, self.grace_ms)
        if max(abs(self.lower_ms), abs(self.upper_ms), self.grace_ms) >= TIME_LIMIT // 4:
            raise PlanError(f"interval_join: bounds and grace must be below {TIME_LIMIT // 4} ms")


@dataclass(frozen=True, slots=True)
class _Side:
    """What is different between left and right."""

    columns: list[str]
    renamed: dict[str, str]
    """Its columns' names in the output (the right's keys under their own)."""
    lower_ms: int
    upper_ms: int
    """Bounds of a partner's time minus one's own."""
    buffer: JoinBuffer


class JoinOperator(Operator):
    """The running step."""

    def __init__(self, step: IntervalJoin, left: Schema, right: Schema, results: Schema) -> None:
        self.step = step
        self.results = results
        self.delay_ms = step.delay_ms
        self.watermark = MIN_TIME
        span = max(step.upper_ms, -step.lower_ms, step.upper_ms - step.lower_ms) + step.grace_ms
        reaches = (step.upper_ms + step.grace_ms, -step.lower_ms + step.grace_ms)
        buffers = [JoinBuffer(reach, span, outer) for reach, outer in zip(reaches, OUTER[step.how], strict=True)]
        self.state = JoinState(step.name, step.on, (left.polars(), buffers[0]), (right.polars(), buffers[1]))
        self.states = (self.state,)
        renamed = {**{name: name for name in step.on}, **right_names(step.on, step.suffix, left, right)}
        self.sides = (
            _Side(left.names, {name: name for name in left.names}, step.lower_ms, step.upper_ms, buffers[0]),
            _Side(right.names, renamed, -step.upper_ms, -step.lower_ms, buffers[1]),
        )

    def open(self, context: Context, watermark: int) -> None:
        """The larger of the committed watermark and the one kept with the rows wins."""
        self.context = context
        self.watermark = self.state.open(watermark)

    @property
    def passed_on(self) -> int:
        """The watermark passed on so far."""
        return max(self.watermark - self.delay_ms, MIN_TIME)

    def process(self, batch: Batch, input_index: int) -> Iterator[Emit]:
        """Pairs are made as they are taken: a batch whose rows have very many partners holds some of them at a time."""
        batch = self._without_rejects(batch)
        if len(batch) == 0:
            return
        own, other = self.sides[input_index], self.sides[1 - input_index]
        rows, times = batch.frame.select(own.columns), batch.time
        high, keyed = key_hashes(rows, self.step.on), _keyed(rows, self.step.on)
        order = sort_order(high, times)
        matched = np.zeros(len(times), np.bool_)
        lower, upper = times + own.lower_ms, times + own.upper_ms
        if keyed is not None:
            lower[~keyed] = TIME_LIMIT << 1
        found = other.buffer.probe(high, lower, upper, order, _PAIRS_MAX)
        yield from self._pairs(input_index, rows, times, found, matched)
        yield from self._keep(batch, input_index, Kept(rows, high, times, matched, times), keyed, order)
        self._count("join_spilled_bytes", self.state.take_spilled_bytes())

    def advance(self, watermark: int) -> Iterator[Emit]:
        for side, parts in enumerate(self.state.advance(watermark)):
            for frame, times in parts:
                yield from self._padded(side, frame, times)
        self.watermark = max(self.watermark, watermark)

    # Rows that cannot be joined

    def _without_rejects(self, batch: Batch) -> Batch:
        """Without tombstones, and without times so large that adding a bound could leave 64 bits."""
        times = batch.time
        wrong = (times <= -TIME_LIMIT) | (times >= TIME_LIMIT)
        deleted = batch.frame[DELETED].fill_null(False).to_numpy() if DELETED in batch.frame.columns else None
        if deleted is not None:
            wrong |= deleted
        if not wrong.any():
            return batch
        rows = np.flatnonzero(wrong)
        reasons = [
            "an interval join cannot take back pairs: tombstone"
            if deleted is not None and deleted[row]
            else f"event time {times[row]} is out of range"
            for row in rows
        ]
        self.context.reject(batch, rows, reasons)
        return batch.replaced(batch.frame.filter(pl.Series(~wrong)))

    # Pairs

    def _pairs(
        self, side: int, rows: pl.DataFrame, times: Ints, found: Iterable[Found], matched: Flags
    ) -> Iterator[Emit]:
        """Batches of pairs of at most about `_PAIRS_MAX` rows; partners are marked where that matters."""
        parts: list[tuple[pl.DataFrame, Ints]] = []
        size = 0
        for some in found:
            part = self._joined(side, rows, times, some, matched)
            if size and size + len(part[1]) > _PAIRS_MAX:
                yield self._emit(parts)
                parts, size = [], 0
            parts.append(part)
            size += len(part[1])
        if size:
            yield self._emit(parts)

    def _joined(
        self, side: int, rows: pl.DataFrame, times: Ints, some: Found, matched: Flags
    ) -> tuple[pl.DataFrame, Ints]:
        mine, theirs = rows[some.needles], some.run.frame[some.rows]
        same = _same_keys(mine, theirs, self.step.on)
        if not same.all():  # equal hashes are not yet equal keys
            some = Found(some.needles[same], some.run, some.rows[same])
            mine, theirs = mine.filter(pl.Series(same)), theirs.filter(pl.Series(same))
        matched[some.needles] = True
        if self.sides[1 - side].buffer.outer:
            self.state.mark(1 - side, some)
        left, right = (mine, theirs) if side == 0 else (theirs, mine)
        right = right.select(
            pl.col(name).alias(new) for name, new in self.sides[1].renamed.items() if name not in self.step.on
        )
        return left.hstack(right), np.maximum(times[some.needles], some.run.times_at(some.rows))

    def _emit(self, parts: Sequence[tuple[pl.DataFrame, Ints]], output: int = 0) -> Emit:
        frame = pl.concat([frame for frame, _ in parts]) if len(parts) > 1 else parts[0][0]
        times = np.concatenate([times for _, times in parts])
        internal = [
            pl.Series(TIME, times),
            pl.lit(self.passed_on, pl.Int64).alias(BEFORE),
            pl.lit(-1, pl.Int64).alias(OFFSET),
        ]
        return Emit(Batch(frame.with_columns(internal)), output)

    # Rows that wait, and rows that do not

    def _keep(self, batch: Batch, side: int, rows: Kept, keyed: Flags | None, order: Ints) -> Iterator[Emit]:
        """Keeps what may find a partner later; gives what may not and has found none."""
        own = self.sides[side].buffer
        late = self._late(batch)
        stays = rows.times >= own.horizon
        if keyed is not None:
            stays &= keyed
        if late is not None:
            stays &= ~late
        if stays.all():
            self.state.keep(side, rows, order)
            return
        if stays.any():
            self.state.keep(side, rows.take(np.flatnonzero(stays)))
        alone = ~stays & ~rows.matched
        if own.outer and alone.any():
            yield from self._padded(side, rows.frame.filter(pl.Series(alone)), rows.times[alone])
        if keyed is not None:
            self._count("null_key_rows", int((~keyed).sum()))
            alone &= keyed
        if late is not None:
            self._count("late_rows_joined", int((late & rows.matched).sum()))
            yield from self._given_late(side, batch, alone & late)

    def _late(self, batch: Batch) -> Flags | None:
        """None: no row is."""
        newest = max(self.watermark, int(batch.before.max()))
        if int(batch.time.min()) >= newest - self.step.grace_ms:
            return None
        late: Flags = batch.time < np.maximum(batch.before, self.watermark) - self.step.grace_ms
        return late

    def _given_late(self, side: int, batch: Batch, late: Flags) -> Iterator[Emit]:
        if not late.any():
            return
        woke = late & (batch.time >= batch.before - self.step.grace_ms)
        self._count("late_rows", int((late & ~woke).sum()))
        self._count("late_rows.partition_woke", int(woke.sum()))
        own = pl.format("the watermark of its partition was {}", BEFORE)
        task = pl.lit(f"its partition slept, and the task's watermark was {self.watermark}")
        grace = duration_text(self.step.grace_ms)
        why = pl.concat_str(
            pl.format("its time {} is more than the grace of {} behind: ", TIME, pl.lit(grace)),
            pl.when(pl.lit(pl.Series(woke[late]))).then(task).otherwise(own),
        )
        frame = batch.frame.filter(pl.Series(late))
        padded = self._with_all_columns(side, frame)
        internal = [frame[name] for name in INTERNAL_COLUMNS if name in frame.columns and name != DELETED]
        reasons = frame.select(why.alias(LATE_REASON))
        yield Emit(batch.replaced(padded.hstack(reasons).with_columns(internal)), 1)

    def _padded(self, side: int, frame: pl.DataFrame, times: Ints) -> Iterator[Emit]:
        """In batches of bounded size."""
        self._count("padded_rows", len(times))
        for at in range(0, len(times), _PAIRS_MAX):
            some = self._with_all_columns(side, frame[at : at + _PAIRS_MAX])
            yield self._emit([(some, times[at : at + _PAIRS_MAX])])

    def _with_all_columns(self, side: int, frame: pl.DataFrame) -> pl.DataFrame:
        known = {new: pl.col(name) for name, new in self.sides[side].renamed.items()}
        return frame.select(known.get(name, pl.lit(None, kind)).alias(name) for name, kind in self.results)

    def _count(self, what: str, amount: int) -> None:
        if amount:
            self.context.count(what, amount)


def _keyed(rows: pl.DataFrame, on: Sequence[str]) -> Flags | None:
    """Which rows have a key without nulls; None: all."""
    if not any(rows[name].null_count() for name in on):
        return None
    flags: Flags = rows.select(pl.all_horizontal(pl.col(name).is_not_null() for name in on)).to_series().to_numpy()
    return flags


def _same_keys(mine: pl.DataFrame, theirs: pl.DataFrame, on: Sequence[str]) -> Flags:
    same: Flags = (mine[on[0]] == theirs[on[0]]).to_numpy()
    for name in on[1:]:
        same = same & (mine[name] == theirs[name]).to_numpy()
    return same
