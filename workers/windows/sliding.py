"""Another name of hopping windows, Flink's. (Kafka Streams' own "sliding" windows are another thing.)"""

from __future__ import annotations

from ...topics.duration import Duration
from ._aligned import AlignedWindow
from .hopping import hopping


def sliding(size: Duration, hop: Duration, offset: Duration = 0) -> AlignedWindow:
    """`hopping(size, hop, offset)`: equal to it, and described as it."""
    return hopping(size, hop, offset)
