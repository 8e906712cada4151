"""As-of and window joins by themselves, no broker: CPU microseconds an input row. `python -m benchmarks.waiting_joins [rows]`

The rows of `benchmarks/interval_join.py`: views on the left, three in four, and purchases, in batches of 20,000 rows of one side. So
many rows wait as five minutes hold; with a limit they are in scratch files beyond it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

from millstream import session, tumbling
from millstream.topics.batch import MIN_TIME
from millstream.workers.operators.asof_join import AsofJoin
from millstream.workers.operators.window_join import WindowJoin

from .interval_join import COMMIT_BATCHES, PURCHASES, REACH_MS, VIEWS, Nobody, batches

STEPS: dict[str, AsofJoin | WindowJoin] = {
    "as-of, backward": AsofJoin(("user",), "backward", grace_ms=REACH_MS),
    "as-of, forward": AsofJoin(("user",), "forward", REACH_MS),
    "as-of, nearest": AsofJoin(("user",), "nearest", REACH_MS),
    "window": WindowJoin(tumbling(REACH_MS), ("user",), "outer"),
    "sessions": WindowJoin(session(REACH_MS // 50), ("user",), "outer"),
}


def operator_of(step: AsofJoin | WindowJoin, folder: Path | None, bytes_max: int) -> Any:
    """Opened. `folder`: None for no limit."""
    operator: Any = step.build([VIEWS, PURCHASES])
    if folder is not None:
        operator.rows.spill_to(folder, bytes_max)
    operator.open(Nobody(), MIN_TIME)
    return operator


def measure(step: AsofJoin | WindowJoin, rows: int, kept_rows: int, bytes_max: int | None) -> dict[str, float]:
    """CPU microseconds a row by stage, and how many rows waited."""
    operator = operator_of(step, None if bytes_max is None else Path(tempfile.gettempdir()), bytes_max or 0)
    spent = {"process": 0.0, "advance": 0.0, "changelog": 0.0}
    kept = 0
    for number, (side, batch, watermark) in enumerate(batches(rows, 10_000, kept_rows, seed=1)):
        begun = process_time()
        for _ in operator.process(batch, side):
            pass
        kept = max(kept, operator.rows.rows(0) + operator.rows.rows(1))
        processed = process_time()
        for _ in operator.advance(watermark):
            pass
        advanced = process_time()
        if number % COMMIT_BATCHES == 0:
            for state in operator.states:
                state.take_changes()
                state.take_checkpoint()
        ended = process_time()
        spent["process"] += processed - begun
        spent["advance"] += advanced - processed
        spent["changelog"] += ended - advanced
    stages = {what: 1e6 * seconds / rows for what, seconds in spent.items()}
    return {**stages, "all": sum(stages.values()), "kept_rows": kept}


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    print("us CPU a row                  process  advance changelog      all   rows kept")
    for name, step in STEPS.items():
        for kept_rows, memory_mib in ((100_000, None), (1_000_000, None), (1_000_000, 8)):
            found = measure(step, rows, kept_rows, None if memory_mib is None else memory_mib << 20)
            print(
                f"{name:16}{kept_rows:10,} {found['process']:10.3f} {found['advance']:8.3f} {found['changelog']:9.3f} "
                f"{found['all']:8.3f} {found['kept_rows']:11,.0f}"
                + ("" if memory_mib is None else f"   in {memory_mib} MiB")
            )


if __name__ == "__main__":
    main()
