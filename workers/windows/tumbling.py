"""Windows side by side: every row is in one."""

from __future__ import annotations

from ...topics.duration import Duration, duration_ms
from ._aligned import AlignedWindow


def tumbling(size: Duration, offset: Duration = 0) -> AlignedWindow:
    """`[start, start + size)`, aligned to 1970-01-01T00:00Z plus `offset`.

    `tumbling("1d", offset="-2h")` begins its days at 22:00 UTC. Raises PlanError for a size that is not positive,
    ConfigurationError for what is no duration.
    """
    size_ms = duration_ms(size, name="tumbling size")
    return AlignedWindow("tumbling", size_ms, size_ms, duration_ms(offset, name="tumbling offset"))
