"""What a window kind is: a value that says where a time belongs, and gives the step that gathers rows by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from .operator import Step
from .reducer import Reducer

Emission = Literal["update", "final"]
"""When results are given: at each commit what changed, or once a window when it has closed. `every`: see `early.py`."""


class Window(Protocol):
    """A kind of windows with its sizes. Frozen; equal where it means the same."""

    @property
    def name(self) -> str:
        """The kind: the name of its file, as in YAML."""
        ...

    def describe(self) -> str:
        """One line, the same at every start: it is part of the graph's fingerprint."""
        ...

    def aggregate(
        self,
        by: Sequence[str],
        aggregates: Sequence[tuple[str, Reducer]],
        grace_ms: int,
        emit: Emission,
        every_ms: int | None = None,
    ) -> Step:
        """The step that gathers rows of these windows and key columns. Output 0: results; output 1: rows too late.

        `every_ms`: how often results of open windows are given (`early.py`). Raises PlanError for what this kind has not.
        """
        ...
