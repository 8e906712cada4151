"""Windows of one size that begin every hop and may overlap (Kafka Streams' hopping, Flink's sliding windows)."""

from __future__ import annotations

from ...topics.duration import Duration, duration_ms
from ._aligned import AlignedWindow


def hopping(size: Duration, hop: Duration, offset: Duration = 0) -> AlignedWindow:
    """Every `[start, start + size)` with `start = offset + n * hop`: a row is in all that cover its time.

    `size` need not be a multiple of `hop`; where `hop > size` rows in the gaps are in no window (counted as
    `rows_in_no_window`). Raises PlanError for a size or hop that is not positive or puts a row in more than 10,000 windows.
    """
    return AlignedWindow(
        "hopping",
        duration_ms(size, name="hopping size"),
        duration_ms(hop, name="hopping hop"),
        duration_ms(offset, name="hopping offset"),
    )
