"""How a step that needs the process it runs in (a broker, a place for an index) is told of it: by its pipeline's `bind`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..state.store import Database
from ..topics.broker import Broker

Bind = Callable[[Broker, Callable[[], Database], Path | None, Callable[[int], Database] | None], None]
"""`DocumentPipeline.bind`: broker, the index's database, a folder beside it, and the database of each of its shards."""


def unbound(*_: object) -> None:
    """Of a step that is of no pipeline."""
