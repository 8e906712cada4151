"""How often a request is tried, and how long it pauses between: doubling, up to a limit, or as the endpoint asks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Attempts:
    """`count` attempts with `count - 1` pauses between them."""

    count: int = 4
    pause_ms: int = 500
    pause_ms_max: int = 20_000

    def __post_init__(self) -> None:
        if self.count < 1 or self.pause_ms < 0 or self.pause_ms_max < 0:
            raise ValueError("attempts_max must be at least 1, pauses not negative")

    def pauses_ms(self) -> Iterator[int | None]:
        """For each attempt how long to wait after it has failed; None after the last."""
        for attempt in range(self.count - 1):
            yield min(self.pause_ms << attempt, self.pause_ms_max)
        yield None


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """What `Retry-After` asks for: seconds or an HTTP date (RFC 9110, 10.2.3). None: nothing that can be read."""
    text = headers.get("retry-after", "").strip()
    try:
        return max(0, round(float(text) * 1000))
    except ValueError:
        pass
    except OverflowError:
        return None
    try:
        return max(0, round((parsedate_to_datetime(text).timestamp() - time.time()) * 1000))
    except (ValueError, TypeError):
        return None
