"""Which documents there are, by what `documents-status` says last of each: for lists and figures, without reading a document.

A view of a compacted topic, as the index is one of `index-updates`: it reads every partition from its beginning and goes on. In
memory are a status and the document's metadata; nothing is kept on disk. It is as far as the topic: a document shows up here in the
commit in which its chunks go to the index.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..topics.batch import Fetch, Partition
from ..topics.broker import Broker, Reader
from .catalogue_values import DocumentsPage, DocumentStatistics, Listed
from .errors import BusyError, MessageError, NotFreshError, UndecidedError
from .following import kept_up
from .read_back import read_status

_LOG: Final = logging.getLogger(__name__)
POLL_MS: Final = 500
POLL_RECORDS_MAX: Final = 5_000
RETRY_MS: Final = 500
ENTRIES_MAX: Final = 2_000_000
"""Documents; about 1 KiB of memory each."""
LIST_MAX: Final = 1_000
"""Documents in one page of a list."""
_SCAN_MAX: Final = 20_000
"""Documents a page's filter is tried on before others get a turn."""

Test = Callable[[Mapping[str, Any]], bool]
"""Whether a document with these names (its metadata, and `uri`) is wanted."""


def _passes(test: Test, listed: Listed) -> bool:
    try:
        return test(listed.names)
    except UndecidedError:  # a function of a name that this document does not have
        return False


class Catalogue:
    """`run` it as a task; everything else may be called meanwhile, in the same loop."""

    def __init__(self, broker: Broker, topic: str, *, entries_max: int = ENTRIES_MAX) -> None:
        self._broker = broker
        self._topic = topic
        self._entries_max = entries_max
        self._listed: dict[str, Listed] = {}
        self._order: list[str] | None = None
        """Ids sorted; None while it catches up."""
        self._failed = 0
        self._chunks = 0
        self._last_indexed: int | None = None
        self._last_modified: int | None = None
        self._left_out = 0
        self._behind: dict[Partition, int] | None = None
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._listed)

    def get(self, uri: str) -> Listed | None:
        return self._listed.get(uri)

    async def page(self, test: Test | None = None, *, after: str = "", limit: int = 100) -> DocumentsPage:
        """At most `limit` documents (1,000 at most) behind `after` that pass the test. Raises BusyError: it holds no more."""
        if self._left_out:
            raise BusyError(f"there are more than {self._entries_max} documents: they cannot be listed")
        found: list[Listed] = []
        limit = min(limit, LIST_MAX)
        while True:
            order = self._sorted()
            at = bisect_right(order, after)
            for uri in order[at : at + _SCAN_MAX]:
                after, listed = uri, self._listed[uri]
                if test is None or _passes(test, listed):
                    found.append(listed)
                if len(found) == limit:
                    return DocumentsPage(tuple(found), after if after != order[-1] else None)
            if at + _SCAN_MAX >= len(order):
                return DocumentsPage(tuple(found))
            await asyncio.sleep(0)

    def statistics(self) -> DocumentStatistics:
        return DocumentStatistics(
            len(self._listed), self._failed, self._chunks, self._last_indexed, self._last_modified
        )

    async def wait_ready(self, timeout_s: float) -> None:
        """Until everything that was there at the start is in. Raises NotFreshError."""
        try:
            await asyncio.wait_for(self._ready.wait(), timeout_s)
        except TimeoutError:
            raise NotFreshError(f"the list of documents is still being read after {timeout_s:g} s; ask again") from None

    # Reading

    async def run(self) -> None:
        """Until cancelled. While the broker is out of reach it waits."""
        await kept_up("list of documents", self._follow, RETRY_MS)

    async def _follow(self) -> None:
        found = await self._broker.describe_topics([self._topic])
        if self._topic not in found:
            return
        reader = self._broker.reader(isolation="read_committed")
        await reader.start()
        try:
            partitions = [Partition(self._topic, index) for index in range(found[self._topic].partitions)]
            reader.assign(await reader.begin_offsets(partitions))
            if not self._ready.is_set():
                self._behind = await reader.end_offsets(partitions)
                self._look(reader)
            while True:
                for fetch in await reader.poll(timeout_ms=POLL_MS, records_max=POLL_RECORDS_MAX):
                    self.apply(fetch)
                    await asyncio.sleep(0)
                self._look(reader)
        finally:
            await reader.stop()

    def _look(self, reader: Reader) -> None:
        if self._behind is None or any(reader.position(one) < end for one, end in self._behind.items()):
            return
        self._behind = None
        self._ready.set()

    def apply(self, fetch: Fetch) -> None:
        for key, value, at_ms in zip(fetch.keys, fetch.values, fetch.timestamps.tolist(), strict=True):
            uri = (key or b"").decode("utf-8", "replace")
            try:
                status = read_status(value)
            except MessageError:
                continue  # of a newer version, or not of ours: what is known of the document stays
            self._replace(uri, None if status is None else Listed(uri, status, at_ms))

    def _replace(self, uri: str, listed: Listed | None) -> None:
        before = self._listed.pop(uri, None)
        if listed is not None and before is None and len(self._listed) >= self._entries_max:
            self._left_out += 1
            return
        for one, sign in ((before, -1), (listed, 1)):
            if one is not None:
                self._failed += sign * (one.status.state == "failed")
                self._chunks += sign * one.status.chunks
        if listed is not None:
            self._listed[uri] = listed
            self._last_indexed = max(listed.at_ms, self._last_indexed or 0)
            if isinstance(modified := listed.status.modified_at, int):
                self._last_modified = max(modified, self._last_modified or modified)
        self._keep_order(uri, before is not None, listed is not None)

    def _keep_order(self, uri: str, was: bool, is_there: bool) -> None:
        if self._order is None or was == is_there:
            return
        at = bisect_left(self._order, uri)
        if is_there:
            self._order.insert(at, uri)
        else:
            del self._order[at]

    def _sorted(self) -> list[str]:
        if self._order is None:
            self._order = sorted(self._listed)
        return self._order
