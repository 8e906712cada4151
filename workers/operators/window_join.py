"""All pairs of one key in one window of two streams.

    row at t, with BEFORE = w     late for a window  iff  max(w, W of the task) >= window_end + grace
    advance(W)                    a window closes    iff  W >= window_end + grace;  then its pairs are given, once

Results are given when a window closes and not before: then it is known who is alone in it, and each window's rows come together.
Their time is `window_end - 1`, as of any result of a window. A row of an outer side without a partner in a window is given
padded, once for each of its windows. Windows are tumbling or hopping (a pair that is in two windows is given in both), or
sessions, which are over both sides together: rows of both keep one open, and it closes when both have been quiet for the gap.

Late rows are judged as in a windowed aggregation, by the watermark of their own partition: one late for some of its windows
counts in the others; one late for all of them is counted and given on output 1 with the reason, and is in no result. Null keys
match nothing; an outer side gives them when their windows close (in sessions each is one of its own). Tombstones are rejected.

Kept: every row until its last window has closed, and nothing else; beyond a limit on disk. What closes is worked on some windows
and some keys at a time where it is more than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.row_log import RowLog
from ...topics.batch import BEFORE, MIN_TIME, OFFSET, TIME, Batch
from ...topics.duration import duration_text
from ...topics.schema import Schema
from ..errors import PlanError
from ..gathering import LATE_REASON, WINDOW_END, WINDOW_START
from ..grid import Grid
from ..group_pairs import Members, pairs_of
from ..join_rows import PAIRS_MAX, JoinColumns, JoinKeys, in_batches, without
from ..join_schemas import OUTER, check_grace, check_option, check_text_keys, joined_columns
from ..joined_windows import GridWindows, JoinedWindows, SessionWindows, Sides
from ..lateness import TIME_LIMIT, count, lowered, usable
from ..operator import Context, Emit, Operator, StateDefinition
from ..window import Window
from .interval_join import How

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

_ADDED: Final = {WINDOW_START: pl.Int64(), WINDOW_END: pl.Int64()}


@dataclass(frozen=True, slots=True)
class WindowJoin:
    """Input 0 is the left stream, input 1 the right one.

    Output 0: `on`, `window_start`, `window_end` (ms, end exclusive), the left's other columns, then the right's, with `suffix`
    where a name is taken. Output 1: rows too late, without a window, padded, with `late_reason`.
    """

    kind: ClassVar[str] = "window_join"
    window: Window
    on: tuple[str, ...]
    how: How = "inner"
    grace_ms: int = 0
    suffix: str = "_right"
    name: str = "join"
    """Of the store."""

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        left, right = inputs
        check_option(self.kind, "how", self.how, OUTER)
        check_grace(self.kind, self.grace_ms)
        self._check_window()
        columns = joined_columns(self.kind, self.on, self.suffix, left, right)
        check_text_keys(self.kind, self.on, left)
        for name in _ADDED:
            if name in columns:
                raise PlanError(
                    f"window_join: both results and a side have a column {name!r} ({', '.join(columns)}); rename the side's"
                )
        keys = {name: columns[name] for name in self.on}
        return Schema.of({**keys, **_ADDED, **columns}), Schema.of({**columns, LATE_REASON: "string"})

    def build(self, inputs: Sequence[Schema]) -> Operator:
        results, _ = self.output_schemas(inputs)
        return WindowJoinOperator(self, inputs[0], inputs[1], results.names)

    def describe(self) -> Mapping[str, str]:
        return {
            **{"window": self.window.describe(), "on": ", ".join(self.on), "how": self.how},
            **{"grace": duration_text(self.grace_ms), "suffix": self.suffix},
        }

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        """Rows are kept whole; an inner join keeps none without a key."""
        left, right = inputs
        parameters = {"window": self.window.describe(), "on": ", ".join(self.on), "how": self.how}
        return StateDefinition({**parameters, "left": left.text(), "right": right.text()}, {"grace": self.grace_ms})

    def partitioned_by(self, input_index: int) -> tuple[str, ...]:
        return self.on

    def windows(self, rows: RowLog) -> JoinedWindows:
        if isinstance(self.window, Grid):
            return GridWindows(self.window, self.grace_ms, rows)
        return SessionWindows(self._gap_ms, self.grace_ms, rows)

    @property
    def _gap_ms(self) -> int:
        gap: int = getattr(self.window, "gap_ms", 0)
        return gap

    def _check_window(self) -> None:
        sizes = [self._gap_ms]
        if isinstance(self.window, Grid):
            sizes = [self.window.size_ms, self.window.hop_ms, abs(self.window.offset_ms)]
        elif self.window.name != "session":
            raise PlanError(
                f"window_join: no join in {self.window.describe()}: {self.window.name} windows are for aggregations; "
                "join in tumbling, hopping or session windows"
            )
        if max(*sizes, self.grace_ms) >= TIME_LIMIT // 8:
            raise PlanError(f"window_join: sizes and grace must be below {TIME_LIMIT // 8} ms")


class WindowJoinOperator(Operator):
    """The running step."""

    def __init__(self, step: WindowJoin, left: Schema, right: Schema, names: list[str]) -> None:
        self.step = step
        self.names = names
        self.delay_ms = step.grace_ms
        self.watermark = MIN_TIME
        self.keys = JoinKeys(step.on)
        self.columns = JoinColumns(step.on, step.suffix, left, right)
        self.sides = left.names, right.names
        self.rows = RowLog(step.name, self.keys, (left.polars(), right.polars()))
        self.windows = step.windows(self.rows)
        self.states = self.windows.states

    def open(self, context: Context, watermark: int) -> None:
        """The larger of the committed watermark and the one kept with the rows wins."""
        self.context = context
        self.watermark = self.windows.open(watermark)

    @property
    def passed_on(self) -> int:
        """The watermark passed on so far."""
        return lowered(self.watermark, self.delay_ms)

    def process(self, batch: Batch, input_index: int) -> Iterator[Emit]:
        batch = usable(batch, "a window join", self.context)
        keys = self.keys(batch.frame)
        if keys.null_count():
            count(self.context, "null_key_rows", keys.null_count())
            if not OUTER[self.step.how][input_index]:
                batch, keys = without(batch, keys.is_null().to_numpy()), keys.drop_nulls()
        if not len(batch):
            return
        arrived = self.windows.arrive(keys, batch.time, np.maximum(batch.before, self.watermark))
        count(self.context, "rows_in_no_window", int(arrived.in_none.sum()))
        count(self.context, "late_window_rows", arrived.late_windows)
        stays = ~(arrived.late | arrived.in_none)
        if stays.any():
            kept = without(batch, ~stays)
            self.rows.keep(input_index, kept.frame.select(self.sides[input_index]), kept.time, arrived.marks[stays])
        yield from self._given(self.windows.close_early(), self.passed_on)
        if arrived.late.any():
            yield self._late(input_index, batch, arrived.late, arrived.deadlines)

    def _late(self, side: int, batch: Batch, late: Flags, deadlines: Ints) -> Emit:
        woke = late & (batch.before < deadlines)
        count(self.context, "late_rows", int((late & ~woke).sum()))
        count(self.context, "late_rows.partition_woke", int(woke.sum()))
        frame = batch.frame.filter(pl.Series(late))
        closed = pl.format("its last window closed at {}, ", pl.lit(pl.Series(deadlines[late])))
        own = pl.format("the watermark of its partition was {}", BEFORE)
        task = pl.lit(f"its partition slept, and the task's watermark was {self.watermark}")
        reason = pl.concat_str(closed, pl.when(pl.lit(pl.Series(woke[late]))).then(task).otherwise(own))
        told = frame.select(reason.alias(LATE_REASON), TIME, BEFORE, OFFSET)
        return Emit(batch.replaced(self.columns.padded(side, frame).hstack(told)), 1)

    def advance(self, watermark: int) -> Iterator[Emit]:
        passed_on = self.passed_on
        closed = self.windows.close(watermark)
        self.watermark = max(self.watermark, watermark)
        return self._given(closed, passed_on)

    # What is given

    def _given(self, closed: Iterator[Sides], passed_on: int) -> Iterator[Emit]:
        """Batches of bounded size, made one after the other: a window may hold more pairs than there is memory for."""
        for left, right in closed:
            pairs = pairs_of(left.groups, right.groups)
            for mine, theirs in pairs.some(PAIRS_MAX):
                frame = self.columns.joined(left.source.at(left.rows[mine]), right.source.at(right.rows[theirs]))
                yield from self._windowed(frame, left, mine, passed_on)
            for side, members in enumerate((left, right)):
                alone = pairs.alone[side]
                if OUTER[self.step.how][side] and len(alone):
                    count(self.context, "padded_rows", len(alone))
                    for at in range(0, len(alone), PAIRS_MAX):
                        some = alone[at : at + PAIRS_MAX]
                        frame = self.columns.padded(side, members.source.at(members.rows[some]))
                        yield from self._windowed(frame, members, some, passed_on)
        count(self.context, "join_spilled_bytes", self.rows.take_spilled_bytes())

    def _windowed(self, frame: pl.DataFrame, members: Members, which: Ints, passed_on: int) -> Iterator[Emit]:
        starts, ends = members.starts[which], members.ends[which]
        added = frame.with_columns(pl.Series(WINDOW_START, starts), pl.Series(WINDOW_END, ends))
        yield from in_batches(added.select(self.names), ends - 1, passed_on)
