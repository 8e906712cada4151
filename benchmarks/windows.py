"""What windows cost, part by part, without a broker: CPU microseconds a row. `python benchmarks/windows.py`.

The tumbling job: count and sum on 10,000 keys, batches of 50,000 rows, a commit every 200,000 rows, a window every 500,000.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import polars as pl

from millstream.topics.batch import BEFORE, MIN_TIME, OFFSET, TIME, Batch
from millstream.topics.schema import Schema
from millstream.workers.operators.session_aggregate import SessionAggregate
from millstream.workers.operators.window_aggregate import WindowAggregate
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum
from millstream.workers.window import Window
from millstream.workers.windows.hopping import hopping
from millstream.workers.windows.session import session
from millstream.workers.windows.tumbling import tumbling

SCHEMA = Schema.of({"user": "string", "price": "float", "ts": "timestamp_ms"})
WINDOW_MS = 10_000
ROWS_A_WINDOW = 500_000


class Nobody:
    """A context nobody listens to."""

    step, partition = "windows", 0

    def count(self, what: str, amount: int) -> None: ...

    def reject(self, batch: Batch, rows: np.ndarray, reasons: Sequence[str]) -> None: ...


def batches(rows: int, batch_rows: int, keys: int, out_of_order_ms: int = 2_000) -> list[Batch]:
    rng = np.random.default_rng(7)
    names = pl.Series([f"user-{number}" for number in range(keys)])
    made, watermark = [], MIN_TIME
    for first in range(0, rows, batch_rows):
        at = np.arange(first, first + batch_rows) * WINDOW_MS // ROWS_A_WINDOW + 1_700_000_000_000
        times = at - rng.integers(0, out_of_order_ms, batch_rows)
        marks = np.maximum.accumulate(np.concatenate([[watermark], times - out_of_order_ms]))
        watermark = int(marks[-1])
        columns = {"user": names[rng.integers(0, keys, batch_rows)], "price": rng.random(batch_rows), "ts": times}
        internal = {TIME: times, BEFORE: marks[:-1], OFFSET: np.arange(first, first + batch_rows)}
        made.append(Batch(pl.DataFrame({**columns, **internal})))
    return made


Result = TypeVar("Result")


class Stopwatch:
    """CPU time by part."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}

    def __call__(self, part: str, work: Callable[[], Result]) -> Result:
        began = time.process_time()
        result = work()
        self.parts[part] = self.parts.get(part, 0.0) + time.process_time() - began
        return result


def measure(title: str, window: Window, given: list[Batch], commit_every: int) -> None:
    step = window.aggregate(("user",), (("n", Count()), ("total", Sum("price"))), 0, "update")
    assert isinstance(step, WindowAggregate | SessionAggregate)
    operator = step.build([SCHEMA])
    operator.open(Nobody(), MIN_TIME)
    state = operator.state
    watch, changed, given_rows, rows = Stopwatch(), 0, 0, 0
    for number, batch in enumerate(given, 1):
        rows += len(batch)
        watch("process", partial(operator.process, batch, 0))
        emits = [*watch("advance", partial(operator.advance, int(batch.before[-1])))]
        if number % commit_every == 0:
            emits += watch("flush", operator.flush)
            changed += sum(map(len, watch("state bytes", state.take_changes)))
        given_rows += sum(len(emit.batch) for emit in emits if emit.output == 0)
        if number % (5 * commit_every) == 0:
            watch("checkpoint", state.take_checkpoint)
    told = "  ".join(f"{part} {seconds / rows * 1e6:.3f}" for part, seconds in watch.parts.items())
    print(f"{title}: {sum(watch.parts.values()) / rows * 1e6:.3f} us a row ({told}); {given_rows} results")
    if changed:
        print(f"    a changed row: {watch.parts['state bytes'] / changed * 1e6:.3f} us ({changed} changed)")


def main() -> None:
    large = batches(2_000_000, 50_000, 10_000)
    measure("tumbling, 10,000 keys, batches of 50,000", tumbling(WINDOW_MS), large, 4)
    measure("hopping size 10s hop 2s", hopping(WINDOW_MS, 2_000), large[:10], 4)
    measure("session gap 1s", session(1_000), large[:10], 4)
    measure("tumbling, 1,000,000 keys", tumbling(WINDOW_MS), batches(2_000_000, 50_000, 1_000_000), 4)
    small = batches(100_000, 200, 10_000)
    measure("tumbling, batches of 200", tumbling(WINDOW_MS), small, 100)
    measure("session gap 1s, batches of 200", session(1_000), small, 100)


if __name__ == "__main__":
    main()
