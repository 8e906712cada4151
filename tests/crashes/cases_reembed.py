"""Chunks with the vectors of another model: every record of index-updates comes out once, in its order."""

from __future__ import annotations

import asyncio
from typing import Any

from millstream.rag.document import Chunk, chunk_ids
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.operators.reembed import Reembed, ReembedSettings
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentPipeline, DocumentSettings
from millstream.rag.updates import read_update, vector_bytes, write_update
from millstream.workers.app import App
from tests.crashes.case import NAME, Case, Outputs, differences
from tests.crashes.cases_rows import PARTITIONS, by_partition

OLD, NEW = Hashing(4), Hashing(8)
BROKEN = b"no update"
WORDS = ["lamp", "rope", "bell", "map", "clock", "lamp"]


def build(app: App) -> None:
    settings = DocumentSettings.of(app.name, embedder=Part("hashing", {"dimensions": 4}), partitions=PARTITIONS)
    pipeline = DocumentPipeline(settings)
    step = Reembed(ReembedSettings(Part("hashing", {"dimensions": 8})))
    app.records(pipeline.topic("index_updates")).then(step, name="reembed").to(
        app.topic("second", codec="raw"), key="key"
    )


def _update(document: str, word: str, model: Hashing) -> tuple[bytes, bytes]:
    text = f"The {word} of {document}."
    (vector,) = asyncio.run(model.embed([text], "document"))
    chunk = Chunk(chunk_ids(document, [text])[0], document, text)
    return chunk.key.encode(), write_update(chunk, vector_bytes(vector, "f16"), model.fingerprint(), "f16")


def _records() -> list[dict[str, Any]]:
    """Chunks that are put, put again, of the new model already, taken away, and one that nobody can read."""
    records = []
    for turn, word in enumerate(WORDS):
        for number in range(3):
            name = f"doc-{number}"
            key, value = _update(name, word, NEW if (turn + number) % 4 == 3 else OLD)
            kind = (turn * 3 + number) % 7
            records.append({"name": name, "key": key, "value": None if kind == 5 else BROKEN if kind == 6 else value})
    return records


RECORDS = _records()


def _comes_to(value: bytes | None, key: bytes) -> tuple[str, str] | None:
    """Text and model; a record that cannot be read takes its chunk away."""
    if value is None or value == BROKEN:
        return None
    return read_update(key, value).chunk.text, NEW.fingerprint()


def judge(outputs: Outputs) -> list[str]:
    expected = [(one["key"], _comes_to(one["value"], one["key"])) for one in RECORDS]
    found = []
    for record in (record for partition in outputs["second"] for record in partition):
        update = None if record.value is None else read_update(record.key or b"", record.value)
        found.append((record.key or b"", None if update is None else (update.chunk.text, update.model)))
    return [*differences("updates", expected, found), *_out_of_order(expected, found)]


def _out_of_order(expected: list[Any], found: list[Any]) -> list[str]:
    """What a key comes to is what its last record says."""
    wrong = {key for key, value in dict(found).items() if dict(expected)[key] != value}
    return [f"updates: out of order {key!r}" for key in wrong]


CASE = Case(
    "reembed",
    build,
    {f"{NAME}.index-updates": [[(one["key"], one["value"]) for one in part] for part in by_partition(RECORDS, "name")]},
    judge,
)
