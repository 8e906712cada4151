"""Each row of one stream with the next row of its key in another, if that comes within a limit.

    a.t < b.t <= a.t + within        of several b the earliest; of equal times the first by arrival (`workers/following.py`)

A pair is given once, when `W - grace > b.t`, so that no earlier b can come any more. Its time is b's. One b can follow several a.
An a that nothing follows is not given: `not_followed_by` gives those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from ...state.following import Pairs
from ...topics.batch import Batch
from ...topics.schema import Schema
from ..following import Following, FollowingOperator
from ..gathering import EMIT_ROWS_MAX
from ..lateness import made_rows
from ..operator import Emit, Operator, StateDefinition


@dataclass(frozen=True, slots=True)
class FollowedBy:
    """Input 0 is a, input 1 is b. Output 0: a's columns, then b's but for `by`, with `suffix` where a name is taken.

    Output 1: late rows of either, with nulls for the other's columns, with `late_reason`.
    """

    kind: ClassVar[str] = "followed_by"
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
        return self.what.both(first, second), self.what.late(first, second)

    def build(self, inputs: Sequence[Schema]) -> Operator:
        first, second = inputs
        return _FollowedBy(self.what, first, second)

    def describe(self) -> Mapping[str, str]:
        return {**self.what.describe(), "suffix": self.suffix}

    def partitioned_by(self, input_index: int) -> tuple[str, ...]:
        return self.by

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        first, second = inputs
        return self.what.state(first, second)


class _FollowedBy(FollowingOperator):
    def __init__(self, what: Following, first: Schema, second: Schema) -> None:
        super().__init__(what, first, second, second.names, what.grace_ms)
        self.second_names = what.second_names(first, second)

    def advance(self, watermark: int) -> Sequence[Emit]:
        pairs, _ = self.state.advance(watermark)
        emits = list(self._emits(pairs))
        self.watermark = max(self.watermark, watermark)
        return emits

    def _emits(self, pairs: Sequence[Pairs]) -> Iterable[Emit]:
        """By the time of the second row, in batches of bounded size."""
        if not pairs:
            return
        frame = pl.concat([self._joined(some) for some in pairs])
        times = np.concatenate([some.times for some in pairs])
        order = np.argsort(times, kind="stable")
        given = made_rows(frame[order], times[order], self.passed_on).frame
        for part in given.iter_slices(EMIT_ROWS_MAX):
            yield Emit(Batch(part))

    def _joined(self, some: Pairs) -> pl.DataFrame:
        return some.first.hstack(some.second.select(pl.col(name).alias(new) for name, new in self.second_names.items()))
