"""Hostile documents among good ones, in a real worker: each gets a status and a dead letter, the good ones are indexed."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

from millstream.rag.document import Document
from millstream.rag.document_topics import TOPICS, DocumentTopics
from millstream.rag.messages import Query, write_document, write_query
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import bind_answers, document_pipeline
from millstream.state.stores.memory import MemoryDatabase
from millstream.topics.batch import Partition
from millstream.topics.memory import MemoryBroker
from millstream.workers.app import App
from millstream.workers.worker import Worker
from tests.rag.hostile import HOSTILE, Hostile
from tests.rag.office_files import pptx, xlsx
from tests.rag.pdfs import pdf
from tests.rag.topics import PARTITIONS, ends, following, write

NAMES = DocumentTopics.of("shop")
RECORD_BYTES = 700_000
"""What a record of a megabyte holds in base64."""
GOOD = {
    "prices.xlsx": xlsx(Prices=[["name", "price"], ["lamp", 40]]),
    "talk.pptx": pptx(("Clocks", "The clock is made in Basel.")),
    "called.txt": pdf("The rope is made in Turin."),
    "../../etc/passwd.md": b"# Odd name\n\nA name is a name.",
}


def chosen() -> list[Hostile]:
    """All that fit into a record."""
    return [one for one in HOSTILE if len(one.make()) <= RECORD_BYTES]


async def dead_letters(broker: MemoryBroker, wanted: int) -> dict[str, str]:
    """The reason by document."""
    reader = broker.reader()
    await reader.start()
    reader.assign({Partition(NAMES.dead_letters, index): 0 for index in range(PARTITIONS)})
    found: dict[str, str] = {}
    try:
        while len(found) < wanted:
            for fetch in await reader.poll(timeout_ms=1_000, records_max=100):
                for row, key in enumerate(fetch.keys):
                    found[(key or b"").decode()] = b" ".join(value or b"" for _, value in fetch.headers[row]).decode()
    finally:
        await reader.stop()
    return found


async def test_every_hostile_document_has_a_status_and_a_dead_letter() -> None:
    broker = MemoryBroker()
    app = App("shop", commit_interval="20ms")
    pipeline = document_pipeline(app, embedder=Part("hashing", {"dimensions": 64}))
    bind_answers(app, broker, MemoryDatabase)
    await broker.create_topics([replace(pipeline.topic(name).spec(), partitions=PARTITIONS) for name in TOPICS])
    worker = Worker(app, broker)
    hostile = chosen()
    records = {one.uri: one.make() for one in hostile} | GOOD
    async with asyncio.timeout(240), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        await write(broker, NAMES.documents, {u: write_document(Document(u, content=c)) for u, c in records.items()})
        for one in hostile:
            status = await following(broker, NAMES.documents_status, one.uri)
            assert status["state"] == "failed", one.uri
            assert re.search(one.reason, status["error"]), (one.uri, status["error"])
        for uri in GOOD:
            assert (await following(broker, NAMES.documents_status, uri))["state"] == "indexed"
        letters = await dead_letters(broker, len(hostile))
        assert set(letters) == {one.uri for one in hostile}
        assert [one.uri for one in hostile if not re.search(one.reason, letters[one.uri])] == []
        passed = {at: end - 1 for at, end in (await ends(broker, NAMES.index_updates)).items() if end}
        query = Query("", "name price lamp", strategy="retrieve", k=1, fresh_after=passed)
        await write(broker, NAMES.queries, {"q": write_query(query)})
        (source,) = (await following(broker, NAMES.retrievals, "q"))["sources"]
        assert (source["uri"], source["text"]) == ("prices.xlsx", "## Prices\n\nname: lamp | price: 40")
        assert source["metadata"] == {"sheets": 1, "sheet": "Prices", "heading": "Prices", "row": 2}
        worker.stop()
    await pipeline.ingest.parts.closed()
    await pipeline.answer.parts.closed()
