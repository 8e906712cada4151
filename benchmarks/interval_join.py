"""The interval join by itself, no broker: CPU microseconds an input row. `python -m benchmarks.interval_join [rows]`

Purchases look for the views of the five minutes before: views on the left, three rows in four; a batch is 20,000 rows of one side.
The buffer size is the number of rows five minutes hold; the cost a row should not depend on it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import process_time

import numpy as np
import polars as pl
from numpy.typing import NDArray

from millstream.topics.batch import BEFORE, MIN_TIME, OFFSET, TIME, Batch
from millstream.topics.schema import Schema
from millstream.workers.operators.interval_join import IntervalJoin

VIEWS = Schema.of({"user": "string", "view": "int", "page": "string"})
PURCHASES = Schema.of({"user": "string", "purchase": "int", "price": "float"})
REACH_MS = 300_000
BATCH_ROWS = 20_000
COMMIT_BATCHES = 20


class Nobody:
    """A context that listens to nothing."""

    step, partition = "join", 0

    def count(self, what: str, amount: int) -> None:
        """Not measured."""

    def reject(self, batch: Batch, rows: NDArray[np.int64], reasons: Sequence[str]) -> None:
        raise AssertionError(reasons)


def batches(rows: int, keys: int, kept_rows: int, seed: int) -> list[tuple[int, Batch, int]]:
    """Side, rows, and the watermark after them."""
    chance = np.random.default_rng(seed)
    span = int(REACH_MS * BATCH_ROWS / kept_rows)
    made = []
    newest = [MIN_TIME, MIN_TIME]
    for number in range(rows // BATCH_ROWS):
        side = int(number % 4 == 3)
        times = np.sort(chance.integers(number * span, (number + 1) * span + 1, BATCH_ROWS))
        user = pl.select(pl.format("user-{}", pl.Series(chance.integers(0, keys, BATCH_ROWS)))).to_series()
        data = {"user": user, **_values(chance, side), TIME: times}
        before = (
            np.maximum(newest[side], np.concatenate([times[:1], times[:-1]]))
            if number > 3
            else np.full(BATCH_ROWS, MIN_TIME)
        )
        frame = pl.DataFrame({**data, BEFORE: before, OFFSET: np.arange(BATCH_ROWS)})
        newest[side] = int(times[-1])
        made.append((side, Batch(frame), min(newest)))
    return made


def _values(chance: np.random.Generator, side: int) -> dict[str, pl.Series]:
    numbers = pl.Series(np.arange(BATCH_ROWS))
    if side == 1:
        return {"purchase": numbers, "price": pl.Series(chance.random(BATCH_ROWS))}
    pages = pl.Series(chance.integers(0, 1_000, BATCH_ROWS))
    return {"view": numbers, "page": pl.select(pl.format("/category/item/{}", pages)).to_series()}


def measure(rows: int, keys: int, kept_rows: int, how: str, memory_bytes_max: int | None = None) -> dict[str, float]:
    """CPU microseconds a row by stage, and what was found. `memory_bytes_max`: beyond it rows are on disk."""
    step = IntervalJoin(("user",), 0, REACH_MS, how)  # type: ignore[arg-type]
    operator = step.build([VIEWS, PURCHASES])
    if memory_bytes_max is not None:
        operator.state.spill_to(Path(tempfile.gettempdir()), memory_bytes_max)  # type: ignore[attr-defined]
    operator.open(Nobody(), MIN_TIME)
    spent = {"process": 0.0, "advance": 0.0, "changelog": 0.0}
    pairs = size = done = kept = 0
    given = batches(rows, keys, kept_rows, seed=1)
    for number, (side, batch, watermark) in enumerate(given):
        if number == len(given) // 2:  # the buffers are full by now
            spent, done, pairs = dict.fromkeys(spent, 0.0), 0, 0
        begun = process_time()
        pairs += sum(len(emit.batch) for emit in operator.process(batch, side))
        probed = process_time()
        list(operator.advance(watermark))
        advanced = process_time()
        if number % COMMIT_BATCHES == 0:
            size += sum(changes.size_bytes for state in operator.states for changes in state.take_changes())
        ended = process_time()
        for what, seconds in (
            ("process", probed - begun),
            ("advance", advanced - probed),
            ("changelog", ended - advanced),
        ):
            spent[what] += seconds
        done += len(batch)
        kept = max(kept, sum(buffer.rows for buffer in operator.state.buffers))  # type: ignore[attr-defined]
    stages = {what: 1e6 * seconds / done for what, seconds in spent.items()}
    return {
        **stages,
        "all": sum(stages.values()),
        "pairs_a_row": pairs / done,
        "kept_rows": kept,
        "bytes_a_row": size / rows,
    }


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    print("us CPU a row      process  advance changelog      all   pairs/row   rows kept  changelog bytes/row")
    for how, keys, kept, memory_mib in (
        ("inner", 10_000, 50_000, None),
        ("inner", 10_000, 100_000, None),
        ("inner", 1_000_000, 100_000, None),
        ("inner", 1_000_000, 1_000_000, None),
        ("inner", 1_000_000, 1_000_000, 16),
        ("left", 10_000, 100_000, None),
        ("outer", 1_000_000, 1_000_000, None),
        ("outer", 1_000_000, 1_000_000, 16),
    ):
        found = measure(rows, keys, kept, how, None if memory_mib is None else memory_mib << 20)
        print(
            f"{how} {keys:9,} keys {found['process']:8.3f} {found['advance']:8.3f} {found['changelog']:9.3f} {found['all']:8.3f} "
            f"{found['pairs_a_row']:11.2f} {found['kept_rows']:11,.0f} {found['bytes_a_row']:12.1f}"
            + ("" if memory_mib is None else f"   in {memory_mib} MiB")
        )


if __name__ == "__main__":
    main()
