"""What the parts of a process have counted of their endpoints since it was last asked: for the counters of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from .endpoint_gate import EndpointCounts


class CountsSince:
    """`parts` by the word their counts are led by: `llm_attempts`, `llm_waited_ms`, ... Those without endpoints count nothing.

    Asked by the tasks of a process in turn, each gets what no other has got.
    """

    def __init__(self, parts: Mapping[str, object]) -> None:
        self._parts = {
            word: part for word, part in parts.items() if isinstance(getattr(part, "counts", None), EndpointCounts)
        }
        self._told: dict[str, int] = {}

    def take(self) -> dict[str, int]:
        """Only what has grown."""
        counts = {
            f"{word}_{name}": value
            for word, part in self._parts.items()
            for name, value in asdict(getattr(part, "counts", EndpointCounts())).items()
        }
        grown = {name: value - self._told.get(name, 0) for name, value in counts.items()}
        self._told = counts
        return {name: more for name, more in grown.items() if more}
