"""How a client reaches a document pipeline: over its topics (`topics_transport.py`), or over HTTP (`http_transport.py`).

Both carry the records of `messages.py`: the body of a request is the value of a record, and so is what comes back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from .catalogue_values import DocumentsPage, DocumentStatistics, Listed
from .filters import FilterText


class Transport(Protocol):
    """Opened once, used by several tasks at once, closed once. Everything that waits raises TimeoutError after the time it was set to."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def put(self, uri: str, value: bytes) -> bytes | None:
        """A record of `documents`; its status, None where it was deleted meanwhile."""
        ...

    async def delete(self, uri: str) -> None: ...

    async def ask(self, query_id: str, value: bytes, *, fresh: bool = False) -> bytes:
        """A record of `queries`; that of `answers` or `retrievals`. `fresh`: only from an index that has all that is there now."""
        ...

    def stand(self, query_id: str, value: bytes) -> AsyncGenerator[bytes, None]:
        """A standing question; each record of its answer, until it ends or the generator is closed (it stands on)."""
        ...

    async def end(self, query_id: str) -> None:
        """Ends a standing question."""
        ...

    async def document(self, uri: str) -> Listed | None: ...

    async def documents(
        self, filter_text: FilterText | None = None, *, after: str = "", limit: int = 100
    ) -> DocumentsPage:
        """In the order of their ids. Raises FilterError."""
        ...

    async def statistics(self) -> DocumentStatistics: ...
