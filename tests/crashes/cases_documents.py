"""Documents: parsed, cut and embedded by calls; index updates, what is remembered of a document and the embedding cache in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millstream.rag.document import Document, chunk_ids
from millstream.rag.ingest_work import IngestParts
from millstream.rag.messages import write_document
from millstream.rag.operators.ingest import STATUS, UPDATES
from millstream.rag.parse_job import ParseJob, Part, Pieces
from millstream.rag.parse_pool import ParsePool
from millstream.rag.parse_worker import Parts, work
from millstream.rag.pipeline import DocumentPipeline, DocumentSettings
from millstream.rag.settings import IngestSettings
from millstream.rag.shared import Shared
from millstream.rag.updates import read_update
from millstream.workers.app import App
from tests.crashes.case import NAME, Case, Outputs, differences
from tests.crashes.cases_rows import PARTITIONS, by_partition

BROKEN = b"no JSON"
SPLITTER = Part("markdown")


class _InThisProcess(ParsePool):
    """Parses here: what a parsing process does is tried elsewhere, and virtual time does not wait for one."""

    async def parse(self, job: ParseJob) -> Pieces:
        return work(job, Parts())


def _parts(settings: IngestSettings) -> IngestParts:
    parts = IngestParts(settings, lambda: 0.0)
    parts.pool = _InThisProcess()
    return parts


def build(app: App) -> None:
    settings = DocumentSettings.of(
        app.name, embedder=Part("hashing", {"dimensions": 8}), splitter=SPLITTER, partitions=PARTITIONS
    )
    pipeline = DocumentPipeline(settings, clock=lambda: 0.0)
    shared = Shared(lambda: _parts(settings.ingest))
    object.__setattr__(pipeline.ingest, "parts", shared)
    documents = app.records(pipeline.topic("documents")).then(pipeline.ingest, name="ingest")
    documents.output(UPDATES).to(pipeline.topic("index_updates"))
    documents.output(STATUS).to(pipeline.topic("documents_status"))


def _text(name: str, *sections: str) -> str:
    return "\n\n".join(f"# {name} {section}\n\nThe {section} of {name}." for section in sections)


def _versions() -> list[dict[str, Any]]:
    """Five documents: written, edited, edited back, deleted or broken; in turn."""
    names = [f"doc-{n}.md" for n in range(5)]
    edits: list[Sequence[str] | bytes | None] = [("lamp", "rope"), ("lamp", "bell", "map"), ("rope", "lamp"), None]
    endings: list[Sequence[str] | bytes | None] = [("clock",), None, BROKEN, ("lamp", "rope"), BROKEN]
    turns = [*((name, edit) for edit in edits[:3] for name in names), *zip(names, endings, strict=True)]
    return [{"name": name, "to": to, "version": number} for number, (name, to) in enumerate(turns)]


VERSIONS = _versions()


def _record(version: dict[str, Any]) -> tuple[bytes | None, bytes | None]:
    to, name = version["to"], version["name"]
    if not isinstance(to, tuple):
        return name.encode(), to
    document = Document(name, text=_text(name, *to), content_type="text/markdown", version=version["version"])
    return name.encode(), write_document(document)


def _expected() -> tuple[list[Any], list[Any]]:
    """Every index update and every status, version by version."""
    held: dict[str, dict[str, str]] = {}
    embedded: dict[str, set[str]] = {}
    updates: list[Any] = []
    statuses: list[Any] = []
    for version in VERSIONS:
        name, to = version["name"], version["to"]
        before = held.get(name, {})
        if to == BROKEN:
            statuses.append((name, "failed", None, len(before), 0, len(before)))
            continue
        texts = [piece.text for piece in SPLITS.split(_text(name, *to))] if to else []
        ids = chunk_ids(name, texts)
        title = to[0] if to else ""  # of the document, in every record of it
        fresh = [(one, text) for one, text in zip(ids, texts, strict=True) if before.get(one) != title]
        updates += [(f"{name}#{one}", text) for one, text in fresh]
        updates += [(f"{name}#{one}", None) for one in before if one not in ids]
        known = embedded.setdefault(name, set())
        paid = {text for _, text in fresh} - known
        known |= paid
        held[name] = dict.fromkeys(ids, title)
        status = (name, "indexed", version["version"], len(ids), len(paid), len(ids) - len(paid))
        statuses.append(status if to else (name, "deleted"))
    return updates, statuses


def judge(outputs: Outputs) -> list[str]:
    """Updates and statuses as version by version; `embedded` and `reused` say that no text was paid for twice in a commit."""
    updates, statuses = _expected()
    found = [
        (record.key.decode(), _chunk_text(record.key, record.value))
        for partition in outputs[f"{NAME}.index-updates"]
        for record in partition
        if record.key is not None
    ]
    told = [
        (record.key.decode(), *_said(record.row)) if record.value is not None else (record.key.decode(), "deleted")
        for partition in outputs[f"{NAME}.documents-status"]
        for record in partition
        if record.key is not None
    ]
    letters = [record.value for partition in outputs[f"{NAME}.dead-letters"] for record in partition]
    return [
        *differences("updates", updates, found),
        *differences("statuses", statuses, told),
        *differences("dead", [BROKEN, BROKEN], letters),
    ]


def _chunk_text(key: bytes, value: bytes | None) -> str | None:
    return None if value is None else read_update(key, value).chunk.text


def _said(status: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(status[name] for name in ("state", "version", "chunks", "embedded", "reused"))


SPLITS: Any = Parts().get("splitter", SPLITTER)
CASE = Case(
    "documents",
    build,
    {f"{NAME}.documents": [[_record(one) for one in part] for part in by_partition(VERSIONS, "name")]},
    judge,
)
