"""Documents as a list of them has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .messages import Status


@dataclass(frozen=True, slots=True)
class Listed:
    """A document, and what became of its newest version."""

    uri: str
    status: Status
    at_ms: int = 0
    """When the status was written, in milliseconds since the epoch."""

    @property
    def names(self) -> dict[str, Any]:
        """What filters see, as they do of a chunk."""
        return {"uri": self.uri, **self.status.metadata}


@dataclass(frozen=True, slots=True)
class DocumentsPage:
    """Documents in the order of their ids. `next`: `after` of the page that follows; None: this is the last."""

    documents: tuple[Listed, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentStatistics:
    """Of all documents."""

    documents: int = 0
    failed: int = 0
    """Whose newest version could not be indexed."""
    chunks: int = 0
    last_indexed_at_ms: int | None = None
    last_modified_at: int | None = None
    """The largest `modified_at` that is a number."""
