"""Each left row with the one row of the right stream that is nearest in time, by key: backward, forward, or either.

    backward  the right row with the largest time <= t     given when  H > t                     H = W - grace
    forward   the right row with the smallest time >= t    given when  H > min(its time, t + tolerance)
    nearest   the nearer of the two, a tie goes forward    given when  H > min(the forward one's time, t + tolerance)

What is certain, and when: a row that is on time has a time of at least H, for the watermark of its own partition is not behind
the task's. So no row before H is still to come, and of those at H one more may: everything that is decided by times below H
is decided for good, and not before (strictly below). Backward needs the right rows up to t. Forward needs those up to the
match: what came at a later time cannot displace it. A match is within the tolerance (inclusive), so past that none can come.

Of right rows of equal time the last by arrival counts. A tombstone on the right ends the version before it at its own time, and
matches nothing; forward looks past it. Null keys match nothing; with `how="left"` they are given when their time has come.

Late left rows (`t < W_before - grace`) match nothing, since what they would match may be gone: they are counted, given on
output 1 with the reason, and with `how="left"` padded at once. Late right rows are counted and given on output 1 too, and left
rows that are not given yet see them. Nothing given is ever taken back.

Kept: left rows and right rows until they are decided; backward of each key the newest right row below H, for ever or as long
as the tolerance or `ttl` says (a match is at most so old); forward nothing below H; nearest what is within twice the tolerance.
A tombstone below H is forgotten with its key; a late row from before it would count again. Rows that wait are on disk beyond a
limit, and what becomes certain at once is worked on by ranges of time where it is more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...state.row_chunks import Chunk, Picked, Rows, Whole
from ...state.row_log import RowLog
from ...state.rows import TableState
from ...topics.batch import MIN_TIME, Batch
from ...topics.duration import duration_text
from ...topics.schema import Schema
from ..asof_versions import NewestVersions
from ..errors import PlanError
from ..gathering import LATE_REASON
from ..join_rows import PAIRS_MAX, JoinColumns, JoinKeys, in_batches, matches, usable_versions, without
from ..join_schemas import check_grace, check_option, check_text_keys, joined_columns
from ..lateness import TIME_LIMIT, count, late_rows, lowered, usable
from ..operator import Context, Emit, Operator, StateDefinition
from ..row_bytes import RowBytes
from ..versions import NONE, Versions

Direction = Literal["backward", "forward", "nearest"]
AsofHow = Literal["left", "inner"]

_LEFT: Final = 0
_RIGHT: Final = 1
_DELETED: Final = 1
_OVERTAKEN: Final = 2
"""Marks of right rows: a tombstone; behind the horizon when it came, so that the watermark does not say whether it was seen."""
_DIRECTIONS: Final = ("backward", "forward", "nearest")

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class AsofJoin:
    """Input 0 is the left stream, input 1 the right one.

    Output 0: the left's columns, then the right's but for `on`, with `suffix` where a name is taken; the time of a row is the
    later of the two, that of a row without a match its own. Output 1: late rows as if padded, with `late_reason`.
    """

    kind: ClassVar[str] = "asof_join"
    on: tuple[str, ...]
    direction: Direction = "backward"
    tolerance_ms: int | None = None
    how: AsofHow = "left"
    grace_ms: int = 0
    suffix: str = "_right"
    ttl_ms: int | None = None
    name: str = "join"
    """Of the store."""

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        left, right = inputs
        self._check_options()
        columns = joined_columns(self.kind, self.on, self.suffix, left, right)
        check_text_keys(self.kind, self.on, left)
        RowBytes(right.polars())
        return Schema.of(columns), Schema.of({**columns, LATE_REASON: "string"})

    def build(self, inputs: Sequence[Schema]) -> Operator:
        self.output_schemas(inputs)
        left, right = inputs
        return AsofOperator(self, left, right)

    def describe(self) -> Mapping[str, str]:
        limits = {"tolerance": self.tolerance_ms, "ttl": self.ttl_ms}
        told = {name: duration_text(limit) for name, limit in limits.items() if limit is not None}
        return {
            **{"on": ", ".join(self.on), "direction": self.direction, **told},
            **{"how": self.how, "grace": duration_text(self.grace_ms), "suffix": self.suffix},
        }

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        """Rows are kept whole. How long follows from the tolerance, `ttl` and grace: less later, never more."""
        left, right = inputs
        parameters = {"on": ", ".join(self.on), "direction": self.direction, "left": left.text(), "right": right.text()}
        reach = {} if self.reach_ms is None else {"tolerance or ttl": self.reach_ms}
        kept_for_ever = {"kept": "for ever"} if self.reach_ms is None else {}
        return StateDefinition({**parameters, **kept_for_ever}, {"grace": self.grace_ms, **reach})

    def partitioned_by(self, input_index: int) -> tuple[str, ...]:
        return self.on

    @property
    def delay_ms(self) -> int:
        """A row is older than the watermark by as much as it waited."""
        return self.grace_ms + self.waits_ms

    @property
    def waits_ms(self) -> int:
        """How long after its time a left row may wait for a right one, beside the grace."""
        return 0 if self.direction == "backward" else self.reach_ms or 0

    @property
    def reach_ms(self) -> int | None:
        """How far apart a left row and its match can be; None: any."""
        limits = [limit for limit in (self.tolerance_ms, self.ttl_ms) if limit is not None]
        return min(limits, default=None)

    def _check_options(self) -> None:
        check_option(self.kind, "direction", self.direction, _DIRECTIONS)
        check_option(self.kind, "how", self.how, ("left", "inner"))
        check_grace(self.kind, self.grace_ms)
        if self.direction != "backward" and self.tolerance_ms is None:
            raise PlanError(
                f"asof_join: direction={self.direction!r} needs a tolerance, as in tolerance='10s': "
                "a stream has no end, so say how long a row waits for what comes after it"
            )
        if self.direction != "backward" and self.ttl_ms is not None:
            raise PlanError(f"asof_join: direction={self.direction!r} frees by its tolerance; leave out ttl")
        for name, limit in (("tolerance", self.tolerance_ms), ("ttl", self.ttl_ms)):
            if limit is not None and limit < 0:
                raise PlanError(f"asof_join: {name} must not be negative, got {duration_text(limit)}")
        if max(self.grace_ms, self.tolerance_ms or 0, self.ttl_ms or 0) >= TIME_LIMIT // 8:
            raise PlanError(f"asof_join: grace, tolerance and ttl must be below {TIME_LIMIT // 8} ms")


@dataclass(frozen=True, slots=True)
class _Certain:
    """Left rows and where the match of each stands in `rights`; `times`: of the matches."""

    lefts: Picked
    rights: Rows
    at: Ints
    times: Ints


class AsofOperator(Operator):
    """The running step."""

    def __init__(self, step: AsofJoin, left: Schema, right: Schema) -> None:
        self.step = step
        self.delay_ms = step.delay_ms
        self.watermark = MIN_TIME
        self.columns = JoinColumns(step.on, step.suffix, left, right)
        self.names = left.names, right.names
        self.rows = RowLog(step.name, JoinKeys(step.on), (left.polars(), right.polars()))
        self.newest: NewestVersions | None = None
        self.states = (self.rows,)
        if step.direction == "backward":
            table = TableState("versions", *NewestVersions.stored_as(right))
            self.newest = NewestVersions(table, right, step.reach_ms)
            self.states = (self.rows, table)
        self._seen = 0
        """Rows of smaller numbers have been looked at by `advance`."""

    def open(self, context: Context, watermark: int) -> None:
        """The larger of the committed watermark and the one kept with the rows wins. What it decided is gone."""
        self.context = context
        self.watermark = self.rows.open(watermark)
        left, right = (self.rows.freed(side) for side in (_LEFT, _RIGHT))
        self.rows.drop(_LEFT, self.rows.pick(_LEFT, lambda chunk: chunk.times < left), told=False)
        seen = self.rows.pick(_RIGHT, lambda chunk: (chunk.times < right) & ((chunk.marks & _OVERTAKEN) == 0))
        self.rows.drop(_RIGHT, seen, told=False)

    @property
    def passed_on(self) -> int:
        """The watermark passed on so far."""
        return lowered(self.watermark, self.delay_ms)

    def process(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        return self._process_right(batch) if input_index == _RIGHT else self._process_left(batch)

    def _process_left(self, batch: Batch) -> Sequence[Emit]:
        batch = usable(batch, "an as-of join's left side", self.context)
        if not len(batch):
            return ()
        emits: list[Emit] = []
        late = late_rows(batch, self.watermark, self.step.grace_ms)
        if late is not None:
            told = (self.watermark, self.step.grace_ms, self.context)
            emits.append(self.columns.late(_LEFT, batch, late, told))
            if self.step.how == "left":
                frame = batch.frame.filter(pl.Series(late))
                emits += in_batches(self.columns.padded(_LEFT, frame), batch.time[late], self.passed_on)
            batch = without(batch, late)
        if self.step.how == "inner":
            batch = without(batch, self._null_keys(batch))
        self._keep(_LEFT, batch, np.zeros(len(batch), np.int64))
        return emits

    def _process_right(self, batch: Batch) -> Sequence[Emit]:
        batch, deleted = usable_versions(batch, "an as-of join", self.context)
        if not len(batch):
            return ()
        emits: list[Emit] = []
        late = late_rows(batch, self.watermark, self.step.grace_ms)
        if late is not None:
            told = (self.watermark, self.step.grace_ms, self.context)
            counted = self.columns.late(_RIGHT, batch, late, told)
            emits.append(Emit(counted.batch.replaced(counted.batch.frame.filter(pl.Series(~deleted[late]))), 1))
        nulls = self._null_keys(batch)
        overtaken = batch.time < self.watermark - self.step.grace_ms
        self._keep(_RIGHT, without(batch, nulls), (deleted * _DELETED + overtaken * _OVERTAKEN)[~nulls])
        return emits

    def _null_keys(self, batch: Batch) -> NDArray[np.bool_]:
        nulls = self.rows.null_keys(batch.frame)
        count(self.context, "null_key_rows", int(nulls.sum()))
        return nulls

    def _keep(self, side: int, batch: Batch, marks: Ints) -> None:
        if len(batch):
            self.rows.keep(side, batch.frame.select(self.names[side]), batch.time, marks)
            count(self.context, "join_spilled_bytes", self.rows.take_spilled_bytes())

    def advance(self, watermark: int) -> Iterator[Emit]:
        """Made as it is taken: what becomes certain at once may be more than there is memory for."""
        horizon, passed_on = watermark - self.step.grace_ms, self.passed_on
        keeps = 2 * self.step.waits_ms if self.step.direction == "nearest" else 0
        self.rows.advance(watermark, (horizon - self.step.waits_ms, horizon - keeps))
        if self.newest is not None:
            parts = self._backward(self.newest, horizon)
        else:
            parts = self._within(self.watermark - self.step.grace_ms, horizon)
        self.watermark = max(self.watermark, watermark)
        for certain in parts:
            yield from self._given(certain, passed_on)
        count(self.context, "join_spilled_bytes", self.rows.take_spilled_bytes())

    def _given(self, certain: _Certain, passed_on: int) -> Iterator[Emit]:
        lefts, at = certain.lefts, certain.at
        order = np.argsort(lefts.times, kind="stable")
        if self.step.how == "inner":
            order = order[at[order] >= 0]
        later = np.maximum(lefts.times, np.where(at >= 0, certain.times, MIN_TIME))[order]
        count(self.context, "unmatched_rows", int((at < 0).sum()))
        for begin in range(0, len(order), PAIRS_MAX):
            some = slice(begin, begin + PAIRS_MAX)
            frame = self.columns.joined(lefts.at(order[some]), matches(certain.rights, at[order[some]]))
            yield from in_batches(frame, later[some], passed_on)

    # Backward

    def _backward(self, newest: NewestVersions, horizon: int) -> Iterator[_Certain]:
        """Left rows below the horizon, with the version of their time."""
        for _, before in self.rows.time_parts(horizon):
            lefts, settled = self._before(_LEFT, before), self._before(_RIGHT, before)
            frame, at, times = newest.match(lefts, settled, (settled.marks & _DELETED) > 0, self.rows.texts)
            self.rows.drop(_LEFT, lefts, told=False)
            self._drop_rights(settled)
            yield _Certain(lefts, Whole(frame), at, times)
        newest.expire(horizon)

    def _before(self, side: int, horizon: int) -> Picked:
        return self.rows.pick(side, lambda chunk: chunk.times < horizon, before=horizon)

    # Forward and nearest

    def _within(self, reached: int, horizon: int) -> Iterator[_Certain]:
        """Left rows whose next right row is below the horizon, or whose tolerance is. `reached`: the horizon before."""
        rows, waits = self.rows, self.step.waits_ms
        seen, self._seen = self._seen, rows.next_number
        touched = rows.codes_of(
            _RIGHT,
            lambda chunk: (chunk.times < horizon) & ((chunk.times >= reached) | (chunk.numbers >= seen)),
            unless=lambda chunk: chunk.tmin >= horizon or (chunk.tmax < reached and chunk.last < seen),
        )
        for after, before in rows.time_parts(horizon, _LEFT):
            lefts = self._between(
                _LEFT, (after, before), lambda chunk: touched[chunk.codes] | (chunk.times + waits < horizon)
            )
            if len(lefts):
                yield self._certain(lefts, horizon)
        freed = rows.freed(_RIGHT)  # what no left row can match any more
        for _, before in rows.time_parts(freed, _RIGHT):
            self._drop_rights(self._before(_RIGHT, before))

    def _certain(self, lefts: Picked, horizon: int) -> _Certain:
        """Those of the left rows that are decided, which are dropped."""
        rows, waits, times = self.rows, self.step.waits_ms, lefts.times
        wanted = rows.mask(lefts.codes)
        first = int(times.min()) - (waits if self.step.direction == "nearest" else 0)
        stop = min(int(times.max()) + waits + 1, horizon)
        rights = self._between(_RIGHT, (first, stop), lambda chunk: wanted[chunk.codes])
        at, found, decided = self._nearby(lefts, rights, horizon)
        given = lefts.where(decided)
        rows.drop(_LEFT, given, told=given.times + waits >= horizon)
        return _Certain(given, rows.held(rights), at[decided], found[decided])

    def _between(self, side: int, times: tuple[int | None, int], mask: Callable[[Chunk], Flags]) -> Picked:
        """Rows with `after <= time < before` for which a mask is true."""
        after, before = times

        def chosen(chunk: Chunk) -> Flags:
            inside = chunk.times < before
            if after is not None and chunk.tmin < after:
                inside &= chunk.times >= after
            flags: Flags = inside & mask(chunk)
            return flags

        return self.rows.pick(side, chosen, after=after, before=before)

    def _nearby(self, lefts: Picked, rights: Picked, horizon: int) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        """Of each left row: where its match stands, the match's time, and whether that is certain."""
        waits, times = self.step.waits_ms, lefts.times
        versions = Versions(rights.codes, rights.times, (rights.marks & _DELETED) > 0)
        after = versions.at_or_after(lefts.codes, times)
        ahead = versions.times_of(after, TIME_LIMIT) - times
        after[ahead > waits] = NONE
        decided = (after >= 0) | (times + waits < horizon)
        found = after
        if self.step.direction == "nearest":
            before = versions.at_or_before(lefts.codes, times)
            behind = times - versions.times_of(before, -TIME_LIMIT)
            nearer = versions.living(before) & (behind <= waits) & ((after < 0) | (behind < ahead))
            found = np.where(nearer, before, after)
        return np.where(found >= 0, np.append(versions.rows, NONE)[found], NONE), versions.times_of(found, 0), decided

    def _drop_rights(self, gone: Picked) -> None:
        self.rows.drop(_RIGHT, gone, told=(gone.marks & _OVERTAKEN) > 0)
