"""What the steps that await a user's function are alike in: one call a row, and what fails is a dead letter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..topics.batch import Batch
from .attempts import AsyncFunction, CallLimits, Failed, Gave, attempted
from .operator import AsyncOperator, Call, Emit


class AsyncRows(AsyncOperator):
    """Calls run beside each other, results are given in the order of the rows."""

    def __init__(self, function: Callable[..., Any], limits: CallLimits, call: AsyncFunction | None = None) -> None:
        """`call`: how the function is awaited, where it is not an `async def` itself."""
        self.function, self.limits = function, limits
        self.call = function if call is None else call
        self.concurrency_max = limits.concurrency_max
        self.pending_rows_max = max(self.pending_rows_max, 2 * limits.concurrency_max)

    def submit(self, batch: Batch, input_index: int) -> Sequence[Call]:
        rows = batch.frame.select(batch.user_columns).iter_rows(named=True)
        return [self._call(batch.replaced(batch.frame.slice(number, 1)), row) for number, row in enumerate(rows)]

    def _call(self, one: Batch, row: dict[str, Any]) -> Call:
        return Call(one, partial(attempted, self.call, self.function, row, self.limits))

    def complete(self, call: Call, outcome: object | BaseException) -> Sequence[Emit]:
        if isinstance(outcome, Gave):
            return [Emit(self.finish(outcome.value, call.row))]
        if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
            raise outcome
        reason = outcome.reason if isinstance(outcome, Failed) else f"{type(outcome).__name__}: {outcome}"
        self.context.reject(call.row, np.zeros(1, np.int64), [reason])
        return ()

    def finish(self, value: Any, row: Batch) -> Batch:
        """The rows to be given, of what was returned; those that do not fit are rejected."""
        raise NotImplementedError
