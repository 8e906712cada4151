"""Where each record of index-updates stands, told once: what a look for contradictions starts from."""

from __future__ import annotations

import orjson

from millstream.rag.operators.changed_chunks import ChangedChunks
from millstream.rag.pipeline import DocumentPipeline, DocumentSettings
from millstream.workers.app import App
from tests.crashes.case import NAME, Case, Outputs, differences
from tests.crashes.cases_reembed import RECORDS
from tests.crashes.cases_rows import PARTITIONS, by_partition


def build(app: App) -> None:
    pipeline = DocumentPipeline(DocumentSettings.of(app.name, embedder="hashing", partitions=PARTITIONS))
    changes = app.records(pipeline.topic("index_updates")).then(ChangedChunks(), name="changed-chunks")
    changes.to(app.topic("changes", codec="raw", partitions=1), key="key")


INPUT = [[(one["key"], one["value"]) for one in part] for part in by_partition(RECORDS, "name")]
EXPECTED = [
    (key, {"partition": partition, "offset": offset})
    for partition, records in enumerate(INPUT)
    for offset, (key, _) in enumerate(records)
]


def judge(outputs: Outputs) -> list[str]:
    """Each record once, those of a partition in their order."""
    found = [
        (record.key, orjson.loads(record.value or b"")) for partition in outputs["changes"] for record in partition
    ]
    said = differences("changes", EXPECTED, found)
    for partition in range(PARTITIONS):
        offsets = [change["offset"] for _, change in found if change["partition"] == partition]
        said += [] if offsets == sorted(offsets) else [f"changes: out of order in {partition}: {offsets}"]
    return said


CASE = Case("changed chunks", build, {f"{NAME}.index-updates": INPUT}, judge)
