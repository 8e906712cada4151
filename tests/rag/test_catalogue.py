"""The list of documents is what `documents-status` says last of each."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.rag.catalogue import Catalogue
from millstream.rag.catalogue_values import DocumentStatistics, Listed
from millstream.rag.errors import BusyError, NotFreshError
from millstream.rag.filter import Filter
from millstream.rag.messages import Status, write_status
from millstream.topics.batch import Fetch, Partition
from millstream.topics.memory import MemoryBroker

URIS = st.sampled_from(["a.md", "b.md", "c/d.md", "ü.md", "e.md"])
STATUSES = st.builds(
    Status,
    st.sampled_from(["indexed", "failed"]),
    st.integers(0, 9),
    metadata=st.sampled_from([{}, {"year": 2024}, {"year": 1999}]),
    modified_at=st.sampled_from([None, "2024-01-01", 5, 9]),
)


def fetched(records: list[tuple[str, bytes | None]]) -> Fetch:
    count = len(records)
    keys, values = [uri.encode() for uri, _ in records], [value for _, value in records]
    offsets = np.arange(count, dtype=np.int64)
    return Fetch(Partition("s", 0), 0, count, count, keys, values, offsets, offsets + 1)


@given(st.lists(st.tuples(URIS, st.none() | STATUSES), max_size=30), st.integers(1, 4), st.integers(0, 5))
def test_lists_and_figures_are_those_of_the_last_statuses(
    records: list[tuple[str, Status | None]], limit: int, looked: int
) -> None:
    """Read page by page, with and without a filter, also when a list was asked for in between."""
    catalogue = Catalogue(MemoryBroker(), "s")
    written = [(uri, None if status is None else write_status(status)) for uri, status in records]
    catalogue.apply(fetched(written[:looked]))
    asyncio.run(catalogue.page())
    catalogue.apply(fetched(written[looked:]))
    last = {uri: status for uri, status in dict(records).items() if status is not None}
    for chosen in (None, Filter("year > 2000")):
        expected = [uri for uri in sorted(last) if chosen is None or last[uri].metadata.get("year") == 2024]
        assert [one.uri for one in asyncio.run(everything(catalogue, chosen, limit))] == expected
    assert {one.uri: one.status for one in asyncio.run(everything(catalogue, None, limit))} == last
    figures = catalogue.statistics()
    failed = sum(status.state == "failed" for status in last.values())
    chunks = sum(status.chunks for status in last.values())
    assert (figures.documents, figures.failed, figures.chunks) == (len(last), failed, chunks)


async def everything(catalogue: Catalogue, chosen: Filter | None, limit: int) -> list[Listed]:
    found: list[Listed] = []
    after: str | None = ""
    while after is not None:
        page = await catalogue.page(None if chosen is None else chosen.matches, after=after, limit=limit)
        assert len(page.documents) <= limit
        found += page.documents
        after = page.next
    return found


def test_a_record_that_is_no_status_changes_nothing() -> None:
    catalogue = Catalogue(MemoryBroker(), "s")
    good = write_status(Status("indexed", 2, modified_at=7))
    catalogue.apply(fetched([("a.md", good), ("a.md", b"nonsense"), ("b.md", b'{"state": "new"}')]))
    assert catalogue.statistics() == DocumentStatistics(1, 0, 2, 1, 7)


async def test_more_documents_than_it_holds_are_counted_as_such() -> None:
    """A list that is not whole is refused; it is never given as if it were whole."""
    catalogue = Catalogue(MemoryBroker(), "s", entries_max=2)
    catalogue.apply(fetched([(f"{n}.md", write_status(Status("indexed"))) for n in range(3)]))
    with pytest.raises(BusyError, match="more than 2 documents"):
        await catalogue.page()


async def test_a_list_that_is_still_being_read_is_not_given() -> None:
    with pytest.raises(NotFreshError, match="still being read"):
        await Catalogue(MemoryBroker(), "s").wait_ready(0.01)
