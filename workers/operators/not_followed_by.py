"""The rows of one stream that no row of their key in another follows within a limit.

    a is given  iff  no b has  a.t < b.t <= a.t + within        (`workers/following.py`)

Given once, when `W - grace > a.t + within`: then such a b cannot come any more. Its time is a's own, so the watermark passed on
is `within + grace` lower. An a with a null key is followed by nothing: it is given at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from ...topics.batch import Batch
from ...topics.schema import Schema
from ..following import Following, FollowingOperator
from ..gathering import EMIT_ROWS_MAX
from ..lateness import made_rows
from ..operator import Emit, Operator, StateDefinition


@dataclass(frozen=True, slots=True)
class NotFollowedBy:
    """Input 0 is a, input 1 is b. Output 0: rows of a, as they were.

    Output 1: late rows of either: a's columns, then b's but for `by`, with `suffix` where a name is taken, and `late_reason`.
    """

    kind: ClassVar[str] = "not_followed_by"
    by: tuple[str, ...]
    within_ms: int
    grace_ms: int = 0
    suffix: str = "_next"

    @property
    def what(self) -> Following:
        return Following(self.kind, self.by, self.within_ms, self.grace_ms, self.suffix)

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        first, second = inputs
        self.what.check(first, second)
        return first, self.what.late(first, second)

    def build(self, inputs: Sequence[Schema]) -> Operator:
        first, second = inputs
        return _NotFollowedBy(self.what, first, second)

    def describe(self) -> Mapping[str, str]:
        return self.what.describe()

    def partitioned_by(self, input_index: int) -> tuple[str, ...]:
        return self.by

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        """Of b only the key is kept."""
        first, second = inputs
        kinds = dict(second)
        return self.what.state(first, Schema.of({name: kinds[name] for name in self.by}))


class _NotFollowedBy(FollowingOperator):
    def __init__(self, what: Following, first: Schema, second: Schema) -> None:
        super().__init__(what, first, second, what.by, what.within_ms + what.grace_ms)
        self.first_columns = first.names

    def without_key(self, batch: Batch, input_index: int) -> Sequence[Emit]:
        if input_index == 1:
            return ()
        return [Emit(made_rows(batch.frame.select(self.first_columns), batch.time, self.passed_on))]

    def advance(self, watermark: int) -> Sequence[Emit]:
        _, alone = self.state.advance(watermark)
        emits: list[Emit] = []
        if alone:
            frame = pl.concat([frame for frame, _ in alone])
            times = np.concatenate([times for _, times in alone])
            order = np.argsort(times, kind="stable")
            given = made_rows(frame[order], times[order], self.passed_on).frame
            emits = [Emit(Batch(part)) for part in given.iter_slices(EMIT_ROWS_MAX)]
        self.watermark = max(self.watermark, watermark)
        return emits
